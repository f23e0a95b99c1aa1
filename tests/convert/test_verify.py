"""Verify tells equal artifacts from others: by their mathematics, and by what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result

from paw_mlx import Interpreter, Options, formats
from paw_mlx.adapter import Adapter, Lora, Matrix
from paw_mlx.cli import cli
from paw_mlx.convert.program import Artifact
from paw_mlx.convert.verify import read_inputs, verify
from paw_mlx.errors import AdapterMismatch, FormatError, InputTooLong, NotFound
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import Base, load_base
from paw_mlx.program import Program, Template

FAMILY = "llama"
PROFILE = tiny.profile(FAMILY)
INPUTS = ["the disk is full", "spring picnic on Friday", "all are welcome", "the server is down"]
Save = Callable[..., Path]


def wide(seed: int = 0, **changes: Any) -> Program:
    """A program whose rank q4_0 can hold."""
    program = tiny.program(FAMILY, None)
    return replace(program, adapter=tiny.adapter(PROFILE, seed, rank=32, alpha=24.0), **changes)


def moved(program: Program, by: float) -> Program:
    """The program with every B scaled a little."""
    assert program.adapter
    sites = {
        s: Lora(o.A, Matrix.from_array(o.B.dense() * np.float32(1 + by)), o.alpha)
        for s, o in program.adapter.sites.items()
    }
    return replace(program, adapter=Adapter(sites))


def artifact(program: Program, *, bare: bool = False) -> Artifact:
    assert program.adapter
    return Artifact("paw", program.adapter, program.interpreter, None if bare else program)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base") / "base", FAMILY)


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(folder)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a program, or its adapter alone, in a layout: save(program, layout, dtype)."""

    def saved(program: Program, layout: str, dtype: str | None = "f32", name: str = "") -> Path:
        path = tmp_path / (name or f"{layout}-{dtype}")
        if layout in ("paw", "directory"):
            formats.save(program, path, dtype, layout=layout, profile=PROFILE)
        else:
            assert program.adapter
            formats.save_adapter(program.adapter, path, layout, PROFILE, dtype)
        return path

    return saved


def paw(*words: object) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def greedy(folder: Path, program: Program, limit: int = 24) -> list[str]:
    with Interpreter.load(str(folder)) as interpreter:
        return [interpreter.run(program, text, Options(limit)).text for text in INPUTS]


def test_a_program_says_what_the_interpreter_says(base, folder):
    program, other = wide(), wide(seed=1)
    expected = greedy(folder, program), greedy(folder, other)
    assert len({*expected[0], *expected[1]}) > 4, "outputs that do not vary prove nothing"
    verdict = verify(artifact(program), artifact(other), base=base, inputs=INPUTS, max_tokens=24)
    assert ([run.outputs[0] for run in verdict.runs], [run.outputs[1] for run in verdict.runs]) == (
        expected
    )
    assert not verdict.ok
    assert verdict.num_equal == sum(a == b for a, b in zip(*expected, strict=True)) < len(INPUTS)


def test_a_program_equals_itself_to_the_last_logit(base):
    one, same = wide(), wide()
    verdict = verify(artifact(one), artifact(same), base=base, inputs=INPUTS, max_tokens=24)
    assert verdict.ok
    assert verdict.receipt.exact
    for run in verdict.runs:
        assert (run.prompt_diff, run.path_diff, run.parted, run.gap) == (0, 0, None, None)
        assert run.outputs[0] == run.outputs[1]
        assert run.num_tokens > 0


def test_a_small_change_is_seen_in_logits_and_a_turned_token_in_the_outputs(base):
    one = wide()
    close = verify(artifact(one), artifact(moved(one, 1e-5)), base=base, inputs=INPUTS)
    assert not close.ok
    assert all(0 < run.prompt_diff <= run.path_diff < 0.1 for run in close.runs)
    far = verify(artifact(one), artifact(moved(one, 0.5)), base=base, inputs=INPUTS, max_tokens=24)
    [run, *_] = [run for run in far.runs if not run.equal]
    assert run.parted is not None
    assert run.gap is not None
    assert run.outputs[0] != run.outputs[1]
    # Who turns a gap of two logits must have moved them that far.
    assert 0 < run.gap <= 2 * run.path_diff


def logits(base: Base, program: Program | None, tokens: list[int]) -> np.ndarray:
    """All logits (T, V) of a sequence, in one pass and without any cache before it."""
    pairs = lora.pairs(program.adapter, base.dtype) if program and program.adapter else {}
    if program:
        lora.attach(base.groups, pairs)
    kv = KV(base.model.num_layers)
    found = np.array(base.model.logits(base.model.hidden(mx.array([tokens]), kv)))[0]
    lora.attach(base.groups, {})
    return found


def prompt(base: Base, program: Program, text: str) -> list[int]:
    prefix = base.tokenizer.encode(program.template.prefix, control=True)
    return prefix + base.tokenizer.encode_input(text, program.template.suffix)


def test_logits_are_compared_along_the_first_ones_tokens(base):
    one, other = wide(), moved(wide(), 0.02)
    verdict = verify(artifact(one), artifact(other), base=base, inputs=INPUTS, max_tokens=12)
    for run in verdict.runs:
        tokens = prompt(base, one, run.input)
        start = len(tokens) - 1
        for _ in range(11):
            tokens.append(int(logits(base, one, tokens)[-1].argmax()))
        first, second = (logits(base, p, tokens)[start:] for p in (one, other))
        off = np.abs(first - second).max(axis=1)
        assert run.prompt_diff == pytest.approx(off[0], abs=1e-3)
        assert run.path_diff == pytest.approx(off.max(), abs=1e-3)
        parted = np.flatnonzero(first.argmax(axis=1) != second.argmax(axis=1))
        assert run.parted == (parted[0] if len(parted) else None)
        if run.parted is not None:
            two = np.sort(first[run.parted])[-2:]
            assert run.gap == pytest.approx(two[1] - two[0], abs=1e-3)
    assert any(run.path_diff > run.prompt_diff + 0.01 for run in verdict.runs)
    assert 0 < verdict.num_equal < len(INPUTS)


def test_an_output_ends_where_the_program_ends_it(base):
    said = logits(base, wide(), prompt(base, wide(), INPUTS[0]))[-1].argmax()
    ending = replace(base, eos=frozenset({int(said)}))
    run, *_ = verify(artifact(wide()), artifact(wide()), base=ending, inputs=INPUTS).runs
    assert (run.outputs, run.num_tokens, run.equal) == (("", ""), 0, True)
    run, *_ = verify(artifact(wide()), artifact(wide(1)), base=ending, inputs=INPUTS).runs
    assert (run.outputs[0], run.parted) == ("", 0)
    assert run.outputs[1]
    run, *_ = verify(artifact(wide(1)), artifact(wide()), base=ending, inputs=INPUTS).runs
    assert (run.outputs[1], run.parted) == ("", 0)
    assert run.outputs[0]


def test_the_base_is_bare_again_afterwards(base):
    tokens = prompt(base, wide(), INPUTS[0])
    assert (logits(base, wide(), tokens) != logits(base, None, tokens)).any()
    before = logits(base, None, tokens)
    verify(artifact(wide()), artifact(wide(1)), base=base, inputs=INPUTS[:1], max_tokens=2)
    assert (logits(base, None, tokens) == before).all()


def test_templates_decide_and_specs_do_not(base):
    one = wide(spec="Say it.")
    reworded = verify(artifact(one), artifact(replace(one, spec="Say it louder.")))
    assert (reworded.ok, reworded.differing) == (True, ("spec",))
    other = replace(one, template=Template("Else: ", "\n"))
    prompted = verify(artifact(one), artifact(other), base=base, inputs=INPUTS, max_tokens=8)
    assert (prompted.ok, prompted.differing) == (False, ("template",))
    assert prompted.receipt.exact
    assert "templates" in str(prompted)
    assert all(run.prompt_diff > 0 for run in prompted.runs)


def test_a_bare_adapter_runs_in_the_others_template(base):
    one = wide()
    verdict = verify(
        artifact(one), artifact(one, bare=True), base=base, inputs=INPUTS, max_tokens=8
    )
    assert verdict.ok
    assert all(run.path_diff == 0 for run in verdict.runs)
    raw = verify(
        artifact(one, bare=True), artifact(one, bare=True), base=base, inputs=INPUTS, max_tokens=8
    )
    without = replace(one, template=Template("", ""))
    alone = verify(artifact(without), artifact(without), base=base, inputs=INPUTS, max_tokens=8)
    assert [run.outputs for run in raw.runs] == [run.outputs for run in alone.runs]
    assert [run.outputs for run in raw.runs] != [run.outputs for run in verdict.runs]


def test_what_does_not_fit_the_base_gets_one_sentence(base):
    other = tiny.adapter(tiny.profile("qwen3"))
    with pytest.raises(AdapterMismatch, match="does not have"):
        verify(Artifact("peft", other, ""), Artifact("peft", other, ""), base=base)
    with pytest.raises(InputTooLong, match="window of 256"):
        verify(artifact(wide()), artifact(wide()), base=base, inputs=["word " * 300])


@pytest.mark.parametrize("layout", ["directory", "peft", "gguf", "mlx"])
def test_every_layout_of_one_program_is_the_same(save, layout):
    done = paw("verify", save(wide(), "paw"), save(wide(), layout, "f32"))
    assert done.exit_code == 0, done.output
    assert "They are the same: exact at all 14 sites." in done.stdout


@pytest.mark.parametrize(("one", "other"), [("f32", "q4_0"), ("q4_0", "f32"), ("f16", "q4_0")])
def test_a_quantized_program_is_the_same_either_way_round(save, one, other):
    done = paw("verify", save(wide(), "paw", one), save(wide(), "gguf", other))
    assert done.exit_code == 0, done.output
    assert "within the rounding of" in done.stdout
    assert "q4_0" in done.stdout


def test_another_program_is_not_the_same_and_every_site_says_so(save):
    a, b = save(wide(), "paw"), save(moved(wide(), 0.01), "paw", name="moved")
    done = paw("verify", a, b)
    assert done.exit_code == 1
    assert done.stdout.count("an element of scale * B is off by") == 5
    assert "and 9 more" in done.stdout
    assert "They differ: 14 of 14 sites are not the same." in done.stdout
    assert "Traceback" not in done.output


def test_outputs_and_logits_are_told(save, folder, tmp_path):
    inputs = tmp_path / "inputs.txt"
    inputs.write_text("\n".join(INPUTS) + "\n")
    a, b = save(wide(), "paw"), save(moved(wide(), 0.5), "paw", name="moved")
    run = ["verify", a, b, "--interpreter", folder, "--inputs", inputs, "--max-tokens", 24]
    done, record = paw(*run), json.loads(paw(*run, "--json").stdout)
    assert done.exit_code == 1
    assert f"outputs are equal for {record['num_equal']} of 4 inputs" in done.stdout
    first = next(run for run in record["runs"] if not run["equal"])
    assert f"they part after {first['parted']} tokens" in done.stdout
    assert "near-tie" in done.stdout
    assert [run["input"] for run in record["runs"]] == INPUTS
    assert record["receipt"]["num_sites"] == 14
    same = paw("verify", a, a, "--interpreter", folder, "--inputs", inputs, "--max-tokens", 8)
    assert same.exit_code == 0
    assert "logits differ by at most 0 after the prompt, 0 along A's outputs" in same.stdout


def test_the_record_is_strict_json(save):
    done = paw("verify", save(wide(), "paw"), save(wide(1), "gguf"), "--json")
    record = json.loads(done.stdout, parse_constant=pytest.fail)
    assert (done.exit_code, record["ok"], record["runs"]) == (1, False, [])


def test_inputs_come_by_line_or_from_rows(tmp_path):
    text, rows = tmp_path / "inputs.txt", tmp_path / "cases.jsonl"
    text.write_text("one\n\n  two \r\n{3}\n")
    rows.write_text('{"input": "one", "output": "1"}\n\n{"input": "two\\nlines"}\n')
    assert read_inputs(text) == ["one", "  two ", "{3}"]
    assert read_inputs(rows) == ["one", "two\nlines"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl", b'{"input": "x"}\n{"output": "x"}', "line 2"),
        ("a.jsonl", b"{", "line 1: no valid JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1: no valid JSON"),
        ("a.txt", b"\n \n", "no inputs"),
        ("a.txt", b"\xff", "UTF-8"),
    ],
)
def test_inputs_that_are_none_get_one_sentence(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FormatError, match=words):
        read_inputs(tmp_path / name)
    with pytest.raises(NotFound):
        read_inputs(tmp_path / "nowhere.txt")


def test_inputs_without_a_base_are_a_wrong_call(save, tmp_path):
    path = save(wide(), "paw")
    assert paw("verify", path, path, "--inputs", tmp_path).exit_code == 2
    missing = paw("verify", path, tmp_path / "no.paw")
    assert missing.exit_code == 1
    assert "no.paw" in missing.output
