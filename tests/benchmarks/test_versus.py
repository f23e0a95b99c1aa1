"""Engines side by side: the same prompts, the same outputs; what is missing says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from click.testing import CliRunner

from paw_mlx import Interpreter, Program, formats
from paw_mlx.benchmarks.report import report
from paw_mlx.benchmarks.report.report import terminal
from paw_mlx.benchmarks.speed import versus
from paw_mlx.benchmarks.speed.chat import MlxLm
from paw_mlx.benchmarks.speed.llamacpp import LlamaCpp, quantization
from paw_mlx.benchmarks.speed.paw import Paw
from paw_mlx.benchmarks.speed.versus import Engine, VersusPlan
from paw_mlx.cli import cli
from paw_mlx.errors import AdapterMismatch, FormatError, InputTooLong, PawError

pytest.importorskip("mlx_lm")

SMALL = VersusPlan(num_prompt=16, num_decode=5, rounds=2, num_calls=2, max_tokens=6)
TEXTS = ["the disk is full", "spring picnic on Friday", "server"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base") / "qwen3", "qwen3")


def saved(program: Program, path: Path) -> None:
    formats.save(program, path, None, profile=tiny.profile("qwen3"))


@pytest.fixture(scope="module")
def rows(base: Path) -> dict[str, dict[str, Any]]:
    found = versus.run(base, tiny.program("qwen3"), TEXTS, SMALL)
    return {row["engine"]: row for row in found}


@pytest.mark.slow
def test_every_engine_has_a_row(rows: dict[str, Any]) -> None:
    assert list(rows) == ["paw-mlx", "mlx-lm", "llama.cpp"]
    for name in ("paw-mlx", "mlx-lm"):
        row = rows[name]
        assert row["version"]
        for key in ("prefill_tok_s", "decode_tok_s", "ttft_warm_s", "calls_s"):
            assert row[key]["num"] == SMALL.rounds
            assert 0 < row[key]["min"] <= row[key]["median"]
        assert row["footprint_peak_bytes"] > 10_000_000
        assert row["form"] == "float32"


def test_mlx_lm_says_the_same_with_our_adapter(rows: dict[str, Any]) -> None:
    assert rows["paw-mlx"]["same_outputs"] == "3/3"
    assert rows["mlx-lm"]["same_outputs"] == "3/3"


def test_llama_cpp_sits_out_what_is_no_gguf(rows: dict[str, Any]) -> None:
    assert "GGUF" in rows["llama.cpp"]["skipped"] or "installed" in rows["llama.cpp"]["skipped"]
    text = terminal(_report(rows))
    assert "llama.cpp: skipped, " in text


def _report(rows: dict[str, Any]) -> dict[str, Any]:
    return report.make("versus", list(rows.values()), {}, synthetic=False, start={})


def test_mlx_lm_gets_the_programs_prompts_and_adapter(base: Path, tmp_path: Path) -> None:
    """In this process: what it answers is what the program does, and not what the base does."""
    program = tiny.program("qwen3")
    assert program.adapter
    saved(program, tmp_path / "p.paw")
    formats.save_adapter(program.adapter, tmp_path / "mlx", "mlx", tiny.profile("qwen3"))
    paths = {"program": str(tmp_path / "p.paw"), "adapter": str(tmp_path / "mlx")}
    theirs = MlxLm(str(base), **paths)
    theirs.load()
    with Interpreter.load(str(base)) as interpreter:
        ours = [interpreter.function(program)(text, max_tokens=8) for text in TEXTS]
        bare = interpreter.function(replace(program, adapter=None))
        assert [bare(text, max_tokens=8) for text in TEXTS] != ours
    assert [text.strip() for text in theirs.outputs(TEXTS, 8)] == ours
    assert len(set(ours)) == len(TEXTS)
    assert theirs.first_token(warm=True)["seconds"] > 0
    assert theirs.calls(3, 1, 4)["num"] == 3


def test_an_adapter_that_mlx_lm_cannot_read_is_one_sentence(base: Path, tmp_path: Path) -> None:
    saved(tiny.program("qwen3"), tmp_path / "p.paw")
    (tmp_path / "mlx").mkdir()
    subject = MlxLm(str(base), program=str(tmp_path / "p.paw"), adapter=str(tmp_path / "mlx"))
    with pytest.raises(FormatError, match="mlx-lm does not load it"):
        subject.load()


def test_missing_llama_cpp_is_a_row_with_a_reason(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versus, "find_spec", lambda name: None)
    given = versus.Given(tmp_path, tmp_path / "base.gguf", None)
    engine = Engine(LlamaCpp)
    engine.open(None, given, SMALL)  # type: ignore[arg-type]
    engine.answer(TEXTS, SMALL)
    row = engine.row(engine)
    assert "`pip install llama-cpp-python`" in row["skipped"]
    assert row.keys() == {"engine", "version", "skipped"}


def test_llama_cpp_sits_out_what_it_cannot_pack(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(versus, "find_spec", lambda name: True)
    (tmp_path / "base.gguf").write_bytes(b"")
    given = versus.Given(tmp_path, tmp_path / "base.gguf", 8)
    engine = Engine(LlamaCpp)
    engine.open(None, given, SMALL)  # type: ignore[arg-type]
    assert "as it is, and 8 bits were asked for. Leave --bits" in str(engine.failed)


def test_a_prompt_beyond_llama_cpps_room_is_one_sentence() -> None:
    engine = LlamaCpp.__new__(LlamaCpp)
    engine._context = 10  # nothing is loaded
    with pytest.raises(InputTooLong, match="8 tokens and an output of 4 exceed the 10"):
        engine._generate([0] * 8, 4, frozenset())


@pytest.mark.parametrize(("bits", "written"), [(None, 32), (16, 32), (4, 4)])
def test_mlx_lm_gets_dense_weights_as_paw_mlx_computes_them(
    bits: int | None, written: int, base: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    if versus.on_gpu():
        pytest.skip("a GPU computes in the base's own type")
    seen: list[Any] = []
    monkeypatch.setattr(versus, "write_base", lambda *asked: seen.append(asked))
    versus.Given(tmp_path, base, bits).keywords(MlxLm, SMALL)
    assert seen[0][3] == written


def test_another_engine_is_first_in_every_round() -> None:
    engines: list[Any] = ["a", "b", "c"]
    assert [versus.rotated(engines, n)[0] for n in range(-1, 4)] == ["c", "a", "b", "c", "a"]
    assert sorted(versus.rotated(engines, 2)) == engines


class Stumbling:
    """A worker whose library fails as libraries do."""

    def call(self, name: str, **_: Any) -> Any:
        raise RuntimeError("in the process that measures:\nTraceback\nOSError: no libllama")


def test_a_rivals_own_error_is_its_reason() -> None:
    engine = Engine(LlamaCpp, worker=Stumbling())  # type: ignore[arg-type]
    engine.round(SMALL, counts=True)
    assert engine.row(engine)["skipped"] == "OSError: no libllama"
    with pytest.raises(RuntimeError):
        replace(engine, subject=Paw, failed=None).round(SMALL, counts=True)


class Dying:
    """A worker whose process is gone."""

    def call(self, name: str, **_: Any) -> Any:
        raise PawError("the process that measured it was killed by signal 9: out of memory?")


@pytest.mark.parametrize("name", ["mlx-lm", "paw-mlx"])
def test_an_engine_that_dies_in_a_round_is_out_unless_it_is_ours(name: str) -> None:
    engine = Engine(Paw if name == "paw-mlx" else MlxLm, worker=Dying())  # type: ignore[arg-type]
    if name == "paw-mlx":
        with pytest.raises(PawError, match="signal 9"):
            engine.round(SMALL, counts=True)
        return
    engine.round(SMALL, counts=True)
    engine.round(SMALL, counts=True)
    engine.answer(["x"], SMALL)
    assert "signal 9" in engine.row(engine)["skipped"]


class Answering:
    """A worker that measures, until its round `last`; `bad` is an input that it fails on."""

    def __init__(self, last: int = 99, error: BaseException | None = None, bad: str = "") -> None:
        self.left, self.error, self.bad = last, error, bad

    def call(self, name: str, **asked: Any) -> Any:
        if name == "outputs":
            (text,) = asked["texts"]
            if text == self.bad:
                raise InputTooLong("it is too long", hint="Cut it.")
            return [f" {text}!"]
        if name == "calls":
            self.left -= 1
        if name == "memory":
            return {"footprint_peak_bytes": 10**8}
        if self.left < 0 and self.error:
            raise self.error
        return {"prefill_s": 1.0, "decode_s": 1.0, "seconds": 1.0, "num": 2}


def engines(ours: Answering, theirs: Answering) -> list[Engine]:
    made = [(Paw, ours), (MlxLm, theirs)]
    return [Engine(subject, worker=worker) for subject, worker in made]  # type: ignore[arg-type]


def test_what_follows_another_prompt_is_not_timed() -> None:
    class Switching:
        """A worker that is slow whenever it is asked for something else than just before."""

        last = ""

        def call(self, name: str, **asked: Any) -> Any:
            if name == "memory":
                return {"footprint_peak_bytes": 10**8}
            seconds = 0.5 if name in (self.last, "calls") else 64.0
            self.last = name
            return {"prefill_s": seconds, "decode_s": seconds, "seconds": seconds, "num": 2}

    engine = Engine(Paw, worker=Switching())  # type: ignore[arg-type]
    for counts in (False, True, True):
        engine.round(SMALL, counts)
    assert engine.found == {
        "prefill_tok_s": [2 * 16] * 2,
        "decode_tok_s": [2 * 4] * 2,  # the first of 5 comes with the prompt
        "ttft_warm_s": [0.5] * 2,
        "calls_s": [4] * 2,
    }


@pytest.mark.parametrize("name", ["paw-mlx", "mlx-lm"])
def test_an_input_that_an_engine_fails_on_is_an_output_that_differs(name: str) -> None:
    both = [Answering(bad="server" if name == who else "") for who in ("paw-mlx", "mlx-lm")]
    rows = list(versus.take_turns(engines(*both), TEXTS, SMALL))
    assert all(row["decode_tok_s"]["num"] == SMALL.rounds for row in rows)
    same = {row["engine"]: row["same_outputs"] for row in rows}
    assert same == {"paw-mlx": "2/3" if name == "paw-mlx" else "3/3", "mlx-lm": "2/3"}
    (said,) = (row["failed"] for row in rows if row["engine"] == name)
    assert said == "1 of 3 outputs failed, it is too long. Cut it."
    text = " ".join(terminal(_report({row["engine"]: row for row in rows})).split())
    assert f"{name}: {said}" in text


def test_rounds_that_were_measured_are_kept_when_an_engine_dies() -> None:
    died = PawError("killed by signal 9")
    ours, theirs = versus.take_turns(engines(Answering(), Answering(2, died)), TEXTS, SMALL)
    assert ours["decode_tok_s"]["num"] == SMALL.rounds
    assert (theirs["decode_tok_s"]["num"], theirs["failed"]) == (1, "killed by signal 9")
    assert "same_outputs" not in theirs


@pytest.mark.parametrize("error", [KeyboardInterrupt(), PawError("killed by signal 9")])
def test_rounds_that_were_measured_are_rows_before_an_interrupt(error: BaseException) -> None:
    rows: list[Any] = []
    with pytest.raises(type(error)):
        rows.extend(versus.take_turns(engines(Answering(2, error), Answering()), TEXTS, SMALL))
    assert [(row["engine"], row["decode_tok_s"]["num"]) for row in rows] == [
        ("paw-mlx", 1), ("mlx-lm", 2),
    ]  # fmt: skip
    assert not any("same_outputs" in row for row in rows)
    with pytest.raises(type(error)):  # only warmed up: nothing to keep
        list(versus.take_turns(engines(Answering(1, error), Answering(1)), TEXTS, SMALL))


def test_a_program_for_another_base_is_our_error(base: Path) -> None:
    with pytest.raises(AdapterMismatch):
        list(versus.run(base, tiny.program("llama"), TEXTS, SMALL))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *(("m.Q4_K_M.gguf", "GGUF Q4_K_M"), ("Qwen3-0.6B-Q8_0.gguf", "GGUF Q8_0")),
        *(("x-BF16.gguf", "GGUF BF16"), ("model.gguf", "GGUF")),
        *(("m_q4_0.gguf", "GGUF q4_0"), ("IQ4_XS.gguf", "GGUF IQ4_XS"), ("abf16.gguf", "GGUF")),
    ],
)
def test_a_gguf_file_is_called_by_its_form(name: str, form: str) -> None:
    assert quantization(name) == form


@pytest.mark.slow
def test_versus_on_the_command_line_makes_a_program_up(base: Path, tmp_path: Path) -> None:
    arguments = ["bench", "versus", "--interpreter", str(base), "--quick", "--rounds", "1"]
    cases = tmp_path / "cases.jsonl"
    cases.write_text("".join(f"{json.dumps({'input': t, 'output': ''})}\n" for t in TEXTS))
    program = tmp_path / "p.paw"
    saved(tiny.program("qwen3"), program)
    arguments += ["--program", str(program), "--cases", str(cases), "--json"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["kind"] == "versus"
    assert made["rows"][1]["same_outputs"] == "3/3"
    assert (made["settings"]["rounds"], made["settings"]["texts"]) == (1, 3)
    assert made["settings"]["program_digest"] == formats.load(program).digest()[:12]
    assert made["settings"].keys() >= {"program", "rank", "prefix_tokens"}
    assert "Same outputs: the first 8 tokens of each are compared." in terminal(made)
    assert str(tmp_path) not in json.dumps(made["settings"])
