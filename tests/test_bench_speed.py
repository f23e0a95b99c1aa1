"""`paw-mlx bench speed`: a whole run, the processes it measures in, and its arithmetic."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
import tiny
from chat_models import random_model
from click.testing import CliRunner
from reports import speed_row

from paw_mlx import cli as cli_module
from paw_mlx import errors, formats
from paw_mlx.benchmarks import machine, report, rivals, room, speed, subjects, synthetic
from paw_mlx.benchmarks import worker as workers
from paw_mlx.benchmarks.sizes import Form, Sizes
from paw_mlx.benchmarks.worker import Worker, reason
from paw_mlx.cli import cli
from paw_mlx.errors import HubError, InputTooLong, PawError
from paw_mlx.interpreter import Interpreter, bank, weights
from paw_mlx.interpreter.call import Call

HERE = f"{__name__}:Subject"
FLOAT32 = Form(None, 4, fused=False)
MEASURED = {
    *("prefill_tok_s", "decode_tok_s", "ttft_cold_s", "ttft_warm_s", "calls_s", "active_bytes"),
    *("peak_bytes", "cache_bytes", "footprint_peak_bytes", "expected_peak_bytes", "token_bytes"),
}
KEYS = {
    *("subject", "model", "engine", "bits", "form", "weight_bytes", "adapter_bytes", "load_s"),
    *("ceiling_tok_s", "skipped"),
}


class Subject:
    """What the tests let a process do."""

    def __init__(self, fails: bool = False) -> None:
        if fails:
            raise errors.OptionError("no such thing", hint="Take another.")

    def answer(self, text: str) -> str:
        print("a library prints")
        os.write(1, b"{}\n")
        return text

    def fail(self) -> None:
        raise InputTooLong("it is too long", hint="Cut it.")

    def stumble(self) -> None:
        raise ZeroDivisionError("a bug")

    def exhaust(self) -> None:
        raise RuntimeError("[malloc] Unable to allocate 99 bytes.")

    def die(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def abort(self) -> None:
        os.write(2, b"[METAL] Insufficient Memory\n")
        os.abort()

    def leave(self) -> None:
        print("no such library", file=sys.stderr)
        sys.stderr.flush()
        os._exit(3)

    def sleep(self) -> None:
        print(os.getpid(), file=sys.stderr, flush=True)
        time.sleep(60)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Processes find this module, as pytest does."""
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


# The whole


def test_a_quick_run_prints_one_object_with_every_key():
    command = [sys.executable, "-m", "paw_mlx", "bench", "speed"]
    start = time.monotonic()
    done = subprocess.run(
        [*command, "--synthetic", "--quick", "--json"], capture_output=True, text=True, timeout=120
    )
    assert time.monotonic() - start < 60
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert (report["kind"], report["synthetic"]) == ("speed", True)
    assert report["settings"]["num_prompt"] == 32
    assert set(report["conditions"]) == {"start", "end"}
    assert [row["subject"] for row in report["rows"]] == ["base", "program", "baseline"]
    for row in report["rows"]:
        assert row.keys() >= KEYS | MEASURED
        assert row["skipped"] is None
        assert row["load_s"] is None  # nothing was read
        assert row["calls_s"].keys() == {"1", "8", "32"}
        assert all(rate["num"] == 1 and rate["min"] > 0 for rate in row["calls_s"].values())
        assert row["decode_tok_s"]["num"] == 1
        assert row["weight_bytes"] <= row["active_bytes"] <= row["peak_bytes"]
        assert row["peak_bytes"] <= row["batch_peak_bytes"]
    base, program, baseline = report["rows"]
    assert base["adapter_bytes"] == 0 < program["adapter_bytes"]
    assert program["token_bytes"] == base["token_bytes"] + program["adapter_bytes"]
    assert (baseline["engine"], baseline["bits"]) == ("mlx-lm", 4)
    kv_bytes = Sizes.of(synthetic.config("tiny"), Form(4, 4)).kv_bytes
    read = Sizes.of(synthetic.config("tiny"), Form(4, 4)).token_bytes + (32 + 8 // 2) * kv_bytes
    assert baseline["token_bytes"] == pytest.approx(read, rel=1e-3)


def test_a_real_base_and_program_in_two_forms(tmp_path):
    base = tiny.write_base(tmp_path / "base", "llama")
    formats.save(tiny.program("llama"), tmp_path / "p.paw", "f32", profile=tiny.profile("llama"))
    words = ["bench", "speed", "--interpreter", base, "--program", tmp_path / "p.paw", "--quick"]
    words += ["--bits", "8,16", "--json"]
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    rows = report["rows"]
    assert [(r["subject"], r["bits"]) for r in rows[:-1]] == [
        ("base", 8), ("program", 8), ("base", 16), ("program", 16),
    ]  # fmt: skip
    assert rows[0]["form"] == "float32, 8-bit g64"
    assert rows[2]["form"] == "float32"
    assert all(row["load_s"]["num"] == 1 for row in rows[:-1])
    known = {"program": "p.paw", "program_digest": tiny.program("llama").digest()[:12]}
    assert report["settings"].items() >= {**known, "rank": 4}.items()
    assert report["settings"]["prefix_tokens"] > 0
    # Nothing as large as the baseline is fetched unasked.
    assert rows[-1]["subject"] == "baseline"
    assert rows[-1]["skipped"]
    assert not MEASURED & rows[-1].keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits", "5"], "no list of 4, 6, 8, 16"),
        (["--synthetic", "--interpreter", "qwen9"], "no synthetic model 'qwen9'"),
        (["--synthetic", "--program", "x.paw"], "not --program"),
        (["--no-baseline", "--baseline-model", "x"], "not both"),
    ],
)
def test_wrong_options_are_refused(words, message):
    done = CliRunner().invoke(cli, ["bench", "speed", "--quick", *words])
    assert done.exit_code in (1, 2)
    assert message in done.stderr


def test_a_quick_run_compares_a_shape_with_its_like_alone():
    assert speed.default_baseline(True, True, None) == "tiny"
    assert speed.default_baseline(True, True, "tiny") == "tiny"
    assert speed.default_baseline(True, True, "qwen3-0.6b") is None
    assert speed.default_baseline(True, False, "qwen3-0.6b") == "qwen3-32b"
    assert speed.default_baseline(False, True, "qwen3-0.6b") == speed.BASELINE


def test_bits_are_those_that_a_model_has():
    forms = ("bfloat16, 4-bit g64", "bfloat16, 8-bit g32", "float32", "bfloat16")
    assert [speed.form_bits(form) for form in forms] == [4, 8, 16, 16]


def told(monkeypatch, *results):
    """`_measured` gives these in turn, or raises them."""
    left = iter(results)

    def measured(subject, plan, progress):
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(speed, "_measured", measured)


def test_what_was_measured_is_kept_whatever_comes_after_it(monkeypatch):
    lost = RuntimeError("in the process that measures:\nTraceback\n  x\nKeyError: '/a/b/c'")
    told(monkeypatch, {"subject": "base"}, PawError("it died", hint="Take less."), lost)
    models = speed.Models(synthetic=True, baseline="tiny", interpreter="tiny")
    base, program, baseline = speed.run(models, speed.QUICK)
    assert base == {"subject": "base"}
    assert (program["subject"], program["skipped"]) == ("program", "it died. Take less.")
    assert (baseline["subject"], baseline["skipped"]) == ("baseline", "KeyError: 'c'")
    told(monkeypatch, {"subject": "base"}, lost, {"subject": "baseline"})
    assert [row.get("skipped") for row in speed.run(models, speed.QUICK)] == [
        None, "KeyError: 'c'", None,
    ]  # fmt: skip
    told(monkeypatch, PawError("it died"))
    with pytest.raises(PawError, match="it died"):
        next(speed.run(models, speed.QUICK))


# What is cut short


def cut(error):
    """A run that measures one row and comes to that."""

    def run(*_):
        yield speed_row("base", "tiny", 4, 520.0, 335.4e6)
        raise error

    return run


def called(monkeypatch, *words: object) -> int:
    """The exit code of the script."""
    monkeypatch.setattr(sys, "argv", ["paw-mlx", "bench", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli_module.main()
    return int(left.value.code or 0)


SYNTHETIC = ("speed", "--synthetic", "--quick")


def test_an_interrupt_leaves_a_report_that_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(speed, "run", cut(KeyboardInterrupt()))
    assert called(monkeypatch, *SYNTHETIC, "--json", "-o", tmp_path) == 130
    printed = json.loads(capsys.readouterr().out)
    assert [row["subject"] for row in printed["rows"]] == ["base"]
    assert printed["settings"]["partial"] == "it was interrupted"
    (path,) = tmp_path.glob("*.json")
    assert report.load(path) == printed
    note = "Partial, for the run was cut short: it was interrupted"
    assert note in path.with_suffix(".md").read_text()
    assert note in report.terminal(printed)


def test_an_error_leaves_a_report_and_comes_after_it(monkeypatch, capsys):
    lost = PawError("no room in /home/s/x/y", hint="Take less.")
    monkeypatch.setattr(speed, "run", cut(lost))
    assert called(monkeypatch, *SYNTHETIC, "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["settings"]["partial"] == "no room in y. Take less."
    assert json.loads(err.splitlines()[-1])["error"]["hints"] == ["Take less."]
    monkeypatch.setattr(speed, "run", cut(ZeroDivisionError("a bug")))
    monkeypatch.setattr(sys, "argv", ["paw-mlx", "bench", *SYNTHETIC])
    with pytest.raises(ZeroDivisionError):
        cli_module.main()
    assert "cut short: a bug" in capsys.readouterr().out


@pytest.mark.parametrize("rows", [[], [{"subject": "base", "skipped": "no"}]])
def test_where_nothing_was_measured_there_is_no_report(monkeypatch, capsys, rows):
    def run(*_):
        yield from rows
        raise PawError("it died")

    monkeypatch.setattr(speed, "run", run)
    assert called(monkeypatch, *SYNTHETIC, "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "it died"


def test_what_cannot_be_kept_is_said_on_stderr_once_the_report_is_printed(
    monkeypatch, capsys, tmp_path
):
    row = speed_row("base", "tiny", 4, 520.0, 335.4e6)
    monkeypatch.setattr(speed, "run", lambda *_: iter([row]))
    (tmp_path / "file").write_text("")
    assert called(monkeypatch, *SYNTHETIC, "--json", "-o", tmp_path / "file" / "x") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"] == [row]
    assert json.loads(err.splitlines()[-1])["error"]["code"] == "HubError"


def test_a_run_keeps_a_mac_awake_to_its_end(monkeypatch):
    heard = []

    class Awake:
        def terminate(self):
            heard.append("ended")

        def wait(self):
            heard.append("gone")

    def kept_awake(pid):
        heard.append(pid)
        return Awake()

    def run(*_):
        heard.append("measured")
        yield {"subject": "base"}

    monkeypatch.setattr(workers, "kept_awake", kept_awake)
    monkeypatch.setattr(speed, "run", run)
    assert called(monkeypatch, *SYNTHETIC) == 0
    assert heard == [os.getpid(), "measured", "ended", "gone"]


# What a report says


def test_programs_of_one_file_name_are_told_apart(tmp_path, monkeypatch):
    base = tiny.write_base(tmp_path / "base", "llama")
    monkeypatch.chdir(tmp_path)
    found = []
    for rank in (4, 8):
        folder = Path(f"rank-{rank}")
        folder.mkdir()
        adapter = tiny.adapter(tiny.profile("llama"), rank=rank)
        program = replace(tiny.program("llama"), adapter=adapter)
        formats.save(program, folder / "program.paw", "f32", profile=tiny.profile("llama"))
        for path in (folder, tmp_path / folder):
            models = speed.Models(str(base), str(path / "program.paw"))
            found.append(speed.settings(models, speed.QUICK))
    assert [about["program"] for about in found] == [
        "rank-4/program.paw", "program.paw", "rank-8/program.paw", "program.paw",
    ]  # fmt: skip
    assert [about["rank"] for about in found] == [4, 4, 8, 8]
    digests = [about["program_digest"] for about in found]
    assert digests[0] == digests[1] != digests[2] == digests[3]
    made = report.make("speed", [], found[0], synthetic=False, start={})
    said = f"Program: rank-4/program.paw ({digests[0]}), rank 4, {found[0]['prefix_tokens']} prefix"
    assert said in report.terminal(made)


def test_a_report_names_no_folder_of_its_user(tmp_path):
    base = tiny.write_base(tmp_path / "base", "llama")
    formats.save(tiny.program("llama"), tmp_path / "p.paw", "f32", profile=tiny.profile("llama"))
    program = str(tmp_path / "p.paw")
    told = speed.settings(speed.Models(str(base), program, "/home/someone/large-4bit"), speed.QUICK)
    assert (told["program"], told["baseline"]) == ("p.paw", "large-4bit")
    assert str(tmp_path) not in json.dumps(told)
    models = speed.Models(baseline="/home/someone/models/large-4bit")
    (row,) = speed._baseline(models, speed.QUICK, lambda line: None)
    assert "/home" not in json.dumps(row)
    assert row["model"] == "large-4bit"
    urls = "see https://a.b/c/d or tok/s at /home/s/x/y: no"
    assert reason(PawError(urls)) == "see https://a.b/c/d or tok/s at y: no"


def test_calls_at_once_that_do_not_fit_are_named(monkeypatch):
    told(monkeypatch, {"subject": "baseline"})
    monkeypatch.setattr(speed.machine, "limit_bytes", lambda: 1_010_000_000)
    models = speed.Models(synthetic=True, baseline="tiny")
    (row,) = speed._baseline(models, speed.QUICK, lambda line: None)
    assert row["left_out"] == "32 at once need 1.0 GB, and this machine gives 1.0 GB"


@pytest.mark.parametrize(
    "config", ["{not json", "[1]", '{"quantization": "4"}', '{"model_type": "qwen3"}', None]
)
def test_a_broken_baseline_costs_no_other_row(tmp_path, monkeypatch, config):
    folder = tiny.write_base(tmp_path / "large-4bit", "qwen3")
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(config)
    died = PawError("mlx-lm does not load it")
    told(monkeypatch, {"subject": "base"}, {"subject": "program"}, died)
    monkeypatch.setattr(speed, "_paw", lambda *_: [None, None])
    models = speed.Models(baseline=str(folder))
    rows = list(speed.run(models, speed.QUICK))
    assert [row["subject"] for row in rows] == ["base", "program", "baseline"]
    assert "/" not in rows[-1]["skipped"]


@pytest.mark.parametrize("config", ["{not json", "[1]", '{"quantization": "4"}'])
def test_a_config_that_is_none_is_one_sentence(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(errors.FormatError, match=f"the config.json of {tmp_path.name} is no model"):
        room.config_of(tmp_path)


def test_where_memory_is_not_known_a_baseline_is_tried(monkeypatch):
    told(monkeypatch, {"subject": "baseline"})
    monkeypatch.setattr(speed.machine, "limit_bytes", lambda: None)
    models = speed.Models(synthetic=True, baseline="tiny")
    assert list(speed._baseline(models, speed.QUICK, lambda line: None)) == [
        {"subject": "baseline"}
    ]


# What is measured


@pytest.mark.parametrize("rounds", [1, 5])
def test_calls_at_once_are_warmed_up_however_few_rounds_are_timed(rounds):
    asked = []

    class Clock:
        def call(self, name, **args):
            asked.append(args["num"])
            return {"num": args["num"], "seconds": 9.0 if len(asked) <= 2 else 0.5}

    found = speed._calls(Clock(), speed.Plan(rounds=rounds), 4)
    assert len(asked) == 2 + rounds
    assert (found["num"], found["min"]) == (rounds, asked[-1] / 0.5)
    assert "together" not in found


def test_fewer_that_decode_together_than_were_asked_for_are_told():
    class Small:
        def call(self, name, num, at_once, **_):
            return {"num": num, "seconds": 1.0, "together": min(at_once, 20)}

    found = {str(n): speed._calls(Small(), speed.QUICK, n) for n in (8, 32)}
    assert "together" not in found["8"]
    row = speed_row("program", "qwen3-0.6b", 4, 401.0, 358.1e6) | {"calls_s": found}
    made = report.make("speed", [row], {}, synthetic=False, start={})
    assert "4 bits: 20 of 32 at once decoded together." in report.terminal(made)


def test_a_report_tells_power_mode_and_matrix_units():
    made = report.make("speed", [], {}, synthetic=False, start={"power_mode": "high"})
    made["machine"]["matrix_units"] = False
    text = " ".join(report.terminal(made).split())
    assert "start: high power mode" in text
    assert "its matrix units out of reach" in text


def test_random_ids_are_decoded_to_their_number_whatever_ends_an_output(tmp_path):
    base = tiny.write_base(tmp_path / "base", "qwen3")
    vocab = tiny.config("qwen3")["vocab_size"]
    config = json.loads(tiny.changed("qwen3", eos_token_id=list(range(vocab))))
    (base / "config.json").write_text(json.dumps(config))  # every token ends an output
    paw = subjects.Paw(str(base))
    paw.load()
    assert paw.prefill_decode(20, 12, 0)["decode_s"] > 0
    chat = rivals.MlxLm(str(random_model(tmp_path / "chat", eos_token_id=list(range(vocab)))))
    chat.load()
    assert chat.prefill_decode(20, 12, 0)["decode_s"] > 0
    assert chat.outputs(["a"]) == [""]


def test_both_engines_get_the_same_model_and_the_same_prompt():
    paw, chat = subjects.Paw(synthetic="tiny", bare=True), rivals.MlxLm(synthetic="tiny")
    for subject in (paw, chat):
        subject.load()
    texts = ["the disk is full", "spring picnic on Friday", "a"]
    ours, theirs = (subject.outputs(texts, max_tokens=40) for subject in (paw, chat))
    assert ours == theirs
    assert len(set(ours)) > 1
    alone = [chat._answers([text], 1, 40)[0].strip() for text in texts]
    assert alone == theirs


def test_cold_evaluates_the_prefix_and_warm_does_not():
    for subject in (subjects.Paw(synthetic="tiny"), rivals.MlxLm(synthetic="tiny")):
        subject.load()
        subject.first_token(False)
        cold, warm = (
            min(subject.first_token(kind)["seconds"] for _ in range(5)) for kind in (False, True)
        )
        assert warm < cold


def test_calls_are_as_many_as_asked_for_and_all_differ():
    paw = subjects.Paw(synthetic="tiny")
    paw.load()
    seen = heard(paw)
    assert [paw.calls(num, at_once, 4)["num"] for num, at_once in ((3, 1), (12, 4))] == [3, 12]
    assert len(seen) == len({text for text, _ in seen}) == 15


def heard(paw: subjects.Paw) -> list:
    """What a subject hands to its interpreter, as it comes: texts, and futures of results."""
    seen: list = []
    submit = paw._interpreter.submit

    def listening(program, text, options=None):
        future = submit(program, text, options)
        seen.append((text, future))
        return future

    paw._interpreter.submit = listening  # type: ignore[method-assign]
    return seen


def test_calls_are_equal_work_whatever_ends_an_output(tmp_path):
    base = tiny.write_base(tmp_path / "base", "qwen3")
    vocab = tiny.config("qwen3")["vocab_size"]
    config = json.loads(tiny.changed("qwen3", eos_token_id=list(range(vocab))))
    (base / "config.json").write_text(json.dumps(config))
    formats.save(tiny.program("qwen3"), tmp_path / "p.paw", "f32", profile=tiny.profile("qwen3"))
    paw = subjects.Paw(str(base), program=str(tmp_path / "p.paw"))
    paw.load()
    seen = heard(paw)
    paw.calls(2, 1, 5)
    paw.calls(2, 2, 5)
    results = [future.result() for _, future in seen]
    assert [(r.output_tokens, r.num_steps) for r in results] == [(5, 5)] * 4
    chat = rivals.MlxLm(str(random_model(tmp_path / "chat", eos_token_id=list(range(vocab)))))
    chat.load()
    for at_once in (1, 2):
        outputs = chat._answers(["a", "b"], at_once, 5, ends=False)
        assert all(outputs)
        assert not any(chat._answers(["a", "b"], at_once, 5))


def test_the_clock_hears_the_tokenizer_and_waits_for_what_was_computed_ahead(monkeypatch):
    waited = []
    synchronize = mx.synchronize
    monkeypatch.setattr(mx, "synchronize", lambda *on: (waited.append(on), synchronize(*on)))
    for subject in (subjects.Paw(synthetic="tiny"), rivals.MlxLm(synthetic="tiny")):
        subject.load()
        subject.first_token(True)
        for call in (
            lambda subject=subject: subject.prefill_decode(16, 2, 0),
            lambda subject=subject: subject.first_token(False),
            lambda subject=subject: subject.calls(1, 1, 2),
        ):
            waited.clear()
            call()
            assert waited
    ids = subject._tokenizer.ids
    subject._tokenizer.ids = lambda text: (time.sleep(0.2), ids(text))[1]
    for warm in (False, True):
        assert subject.first_token(warm)["seconds"] > 0.2


def test_a_round_after_another_program_times_no_adapter_made_ready(monkeypatch):
    paw = subjects.Paw(synthetic="tiny")
    paw.load()
    paw.prefill_decode(20, 4, 0)
    before = paw._interpreter
    paw.calls(1, 1, 4)
    heated = []
    monkeypatch.setattr(bank, "heat", lambda *a, heat=bank.heat: (heated.append(a), heat(*a)))
    monkeypatch.setattr(Call, "succeed", counting(Call.succeed, heated))
    paw.prefill_decode(20, 4, 0)
    assert paw._interpreter is before
    assert [len(entry) for entry in heated] == [2, 1]  # made ready once, and then the call


def counting(succeed, seen):
    def told(call, result):
        seen.append((result,))
        succeed(call, result)

    return told


# Bytes


@pytest.mark.parametrize("bits", [None, 4, 6, 8])
def test_arithmetic_gives_the_bytes_that_a_model_and_a_program_take(bits):
    sizes = Sizes.of(synthetic.config("tiny"), Form(bits, 4, fused=False))
    with Worker("paw_mlx.benchmarks.subjects:Paw", synthetic="tiny", bits=bits) as paw:
        loaded = paw.call("load")
        before = paw.call("memory")["active_bytes"]
        paw.call("prefill_decode", num_prompt=32, num_decode=8, seed=0)
        grown = paw.call("memory")["active_bytes"] - before
    assert loaded["weight_bytes"] == sizes.weight_bytes
    assert loaded["adapter_bytes"] == sizes.adapter_bytes(64, packed=True)
    # The allocator may give a freed buffer again that is a little larger.
    assert grown == pytest.approx(loaded["adapter_bytes"] + sizes.rows_bytes(96), rel=0.02)


@pytest.mark.parametrize("target", ["subjects:Paw", "rivals:MlxLm"])
def test_arithmetic_gives_the_peak(target):
    """At a shape whose activations and scores outweigh what a step takes besides."""
    shape = {"num_prompt": 512, "num_decode": 32}
    with Worker(f"paw_mlx.benchmarks.{target}", synthetic="tiny") as worker:
        worker.call("load")
        worker.call("prefill_decode", **shape, seed=0)
        peak = worker.call("memory")["run_peak_bytes"]
        expected = worker.call("expected", **shape)["expected_peak_bytes"]
    assert expected == pytest.approx(peak, rel=0.25)
    step = Sizes.of(synthetic.config("tiny"), FLOAT32).workspace_bytes(512)
    assert expected - step < 0.5 * peak  # which the step is most of


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_arithmetic_gives_the_bytes_of_every_family(family, tmp_path):
    base = weights.load_base(tiny.write_base(tmp_path / "base", family))
    assert Sizes.of(tiny.config(family), FLOAT32).weight_bytes == base.nbytes


def test_arithmetic_gives_the_published_sizes():
    def weight_bytes(name: str, bits: int | None) -> int:
        return Sizes.of(synthetic.config(name), Form(bits, 2)).weight_bytes

    assert weight_bytes("qwen3-0.6b", None) == 2 * 596_049_920
    assert weight_bytes("qwen3-32b", None) == 2 * 32_762_123_264
    assert weight_bytes("qwen3-0.6b", 4) == pytest.approx(335.4e6, rel=1e-3)
    assert weight_bytes("qwen3-32b", 4) == pytest.approx(18.43e9, rel=1e-3)
    assert Sizes.of(synthetic.config("qwen3-0.6b"), Form(4, 2)).kv_bytes == 114_688
    assert Sizes.of(synthetic.config("qwen3-32b"), Form(4, 2)).kv_bytes == 262_144


def test_a_ceiling_is_bandwidth_by_bytes_where_bandwidth_is_known():
    assert speed.ceiling(335_400_000, 546.0) == pytest.approx(1628, rel=1e-3)
    assert speed.ceiling(10**9, [300.0, 400.0]) == [300.0, 400.0]
    assert speed.ceiling(10**9, None) is None
    assert speed.ceiling(None, 546.0) is None  # a family that is not known


# The baseline


def skipped(monkeypatch, gpu_bytes: int | None, **models) -> str:
    """Why a baseline is skipped on a machine whose GPU may use so much; None for no GPU."""
    device = "cpu" if gpu_bytes is None else "gpu"
    told = machine.Library(device=device, gpu_bytes=gpu_bytes)
    monkeypatch.setattr(machine, "mlx", lambda: told)
    (row,) = speed._baseline(speed.Models(**models), speed.QUICK, lambda line: None)
    assert row.keys() == {"subject", "model", "engine", "bits", "skipped"}
    return row["skipped"]


def test_a_baseline_that_is_too_large_is_skipped_with_the_numbers(monkeypatch):
    wanted = "needs 19.6 GB (18.4 weights, 0.1 keys and values, 1.0 besides)"
    for models in ({"synthetic": True, "baseline": "qwen3-32b"}, {}):
        why = skipped(monkeypatch, 11_840_000_000, **models)
        assert wanted in why
        assert why.endswith("this machine gives 11.8 GB")


def test_a_baseline_that_is_not_here_is_skipped_and_not_fetched(monkeypatch):
    assert "Qwen3-32B-4bit is not on this machine" in skipped(monkeypatch, 10**12)


def test_a_large_baseline_is_not_tried_on_a_cpu_unasked(monkeypatch):
    monkeypatch.setattr(machine, "system", lambda: machine.Hardware(memory_bytes=10**12))
    assert "hours without a GPU" in skipped(monkeypatch, None, synthetic=True, baseline="qwen3-32b")


# The processes


def test_what_libraries_print_does_not_reach_the_protocol():
    with Worker(HERE) as worker:
        assert worker.call("answer", text="é\n") == "é\n"
        assert worker.call("answer", text="again") == "again"


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('taken from the current folder')")
    monkeypatch.chdir(tmp_path)
    with Worker(HERE) as worker:
        assert worker.call("answer", text="a") == "a"


def test_an_error_comes_out_as_itself_and_a_bug_with_its_traceback():
    with Worker(HERE) as worker:
        with pytest.raises(InputTooLong, match=r"^it is too long") as found:
            worker.call("fail")
        assert found.value.hints == ["Cut it."]
        with pytest.raises(RuntimeError, match=r"in stumble\n(.|\n)*ZeroDivisionError: a bug"):
            worker.call("stumble")
        with pytest.raises(PawError, match=r"out of memory: \[malloc\]"):
            worker.call("exhaust")
        assert worker.call("answer", text="alive") == "alive"
    with pytest.raises(errors.OptionError, match="no such thing"):
        Worker(HERE, fails=True)


def test_a_dying_process_is_one_sentence():
    for number, why in ((signal.SIGKILL, "signal 9: out of memory?"), (signal.SIGABRT, "signal 6")):
        with Worker(HERE) as worker, pytest.raises(PawError) as found:
            worker.call("die", number=int(number))
        assert str(found.value) == f"the process that measured Subject was killed by {why}"
    with Worker(HERE) as worker, pytest.raises(PawError) as found:
        worker.call("abort")
    assert str(found.value).endswith("killed by signal 6: [METAL] Insufficient Memory")
    assert found.value.hints == ["Choose a smaller model, or fewer bits."]
    with Worker(HERE) as worker:
        with pytest.raises(PawError, match=r"ended with exit code 3: no such library$"):
            worker.call("leave")
        with pytest.raises(PawError, match="exit code 3"):  # and it stays dead
            worker.call("answer", text="a")


def test_a_process_ends_with_its_parent_in_the_middle_of_a_call():
    code = f"from paw_mlx.benchmarks.worker import Worker; w = Worker({HERE!r})\n"
    code += "print(w._process.pid, flush=True); w.call('sleep')"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or _is_zombie(child):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child lives on")


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_every_error_of_the_package_can_cross():
    from paw_mlx.benchmarks.worker import _raised, _record

    for error in (HubError("a", hint="b"), errors.PseudoProgramError("a", "the answer")):
        again = _raised(_record(error)["error"])
        assert (type(again), str(again)) == (type(error), "a")
        assert again.hints == error.hints  # type: ignore[attr-defined]


def test_an_interpreter_is_closed_before_another_shares_its_layers(tmp_path):
    base = tiny.write_base(tmp_path / "base", "llama")
    formats.save(tiny.program("llama"), tmp_path / "p.paw", "f32", profile=tiny.profile("llama"))
    paw = subjects.Paw(str(base), program=str(tmp_path / "p.paw"))
    paw.load()
    paw.prefill_decode(20, 4, 0)
    before = paw._interpreter
    got = paw.outputs(["the disk is full"], max_tokens=8)
    assert before.closed
    with Interpreter.load(str(base)) as interpreter:
        fn = interpreter.function(formats.load(tmp_path / "p.paw"))
        assert got == [fn("the disk is full", max_tokens=8)]
