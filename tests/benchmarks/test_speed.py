"""`paw-mlx bench speed`: a whole run, what is cut short, what a report says, the baseline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner
from reports import speed_row

from paw_mlx import __main__ as script
from paw_mlx import errors, formats, machine
from paw_mlx.benchmarks.report import report
from paw_mlx.benchmarks.report.report import terminal
from paw_mlx.benchmarks.speed import speed, synthetic
from paw_mlx.benchmarks.speed import worker as workers
from paw_mlx.benchmarks.speed.sizes import Form, Sizes, read_sizes
from paw_mlx.cli import cli
from paw_mlx.errors import PawError

MEASURED = {
    *("prefill_tok_s", "decode_tok_s", "ttft_cold_s", "ttft_warm_s", "calls_s", "active_bytes"),
    *("peak_bytes", "cache_bytes", "footprint_peak_bytes", "expected_peak_bytes", "token_bytes"),
}
KEYS = {
    *("subject", "model", "engine", "bits", "form", "weight_bytes", "adapter_bytes", "load_s"),
    *("ceiling_tok_s", "skipped"),
}
SYNTHETIC = ("speed", "--synthetic", "--quick")


@pytest.mark.slow
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
    sizes = Sizes.of(synthetic.config("tiny"), Form(4, 4))
    read = sizes.weight_bytes + (32 + 8 // 2) * sizes.kv_bytes
    assert baseline["token_bytes"] == pytest.approx(read, rel=1e-3)


@pytest.mark.slow
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


def told(monkeypatch, *results):
    """`measure` gives these in turn, or raises them."""
    left = iter(results)

    def measured(entry, plan, progress):
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(speed, "measure", measured)


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
        script.main()
    return int(left.value.code or 0)


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
    assert note in terminal(printed)


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
        script.main()
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
    assert json.loads(err.splitlines()[-1])["error"]["code"] == "DiskError"


def test_a_run_keeps_a_mac_awake_to_its_end(monkeypatch):
    heard = []

    class Awake:
        def terminate(self):
            heard.append("ended")

        def wait(self):
            heard.append("gone")

    def keep_awake(pid):
        heard.append(pid)
        return Awake()

    def run(*_):
        heard.append("measured")
        yield {"subject": "base"}

    monkeypatch.setattr(workers, "keep_awake", keep_awake)
    monkeypatch.setattr(speed, "run", run)
    assert called(monkeypatch, *SYNTHETIC) == 0
    assert heard == [os.getpid(), "measured", "ended", "gone"]


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
    assert said in terminal(made)


def test_a_report_names_no_folder_of_its_user(tmp_path):
    base = tiny.write_base(tmp_path / "base", "llama")
    formats.save(tiny.program("llama"), tmp_path / "p.paw", "f32", profile=tiny.profile("llama"))
    program = str(tmp_path / "p.paw")
    told = speed.settings(speed.Models(str(base), program, "/home/someone/large-4bit"), speed.QUICK)
    assert (told["program"], told["baseline"]) == ("p.paw", "large-4bit")
    assert str(tmp_path) not in json.dumps(told)
    models = speed.Models(baseline="/home/someone/models/large-4bit")
    (row,) = speed.run_baseline(models, speed.QUICK)
    assert "/home" not in json.dumps(row)
    assert row["model"] == "large-4bit"


def test_calls_at_once_that_do_not_fit_are_named(monkeypatch):
    told(monkeypatch, {"subject": "baseline"})
    monkeypatch.setattr(machine, "limit_bytes", lambda: 1_010_000_000)
    models = speed.Models(synthetic=True, baseline="tiny")
    (row,) = speed.run_baseline(models, speed.QUICK)
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
    monkeypatch.setattr(speed, "_own_entries", lambda *_: [None, None])
    models = speed.Models(baseline=str(folder))
    rows = list(speed.run(models, speed.QUICK))
    assert [row["subject"] for row in rows] == ["base", "program", "baseline"]
    assert "/" not in rows[-1]["skipped"]


@pytest.mark.parametrize("config", ["{not json", "[1]", '{"quantization": "4"}'])
def test_a_config_that_is_none_is_one_sentence(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(errors.FormatError, match=f"the config.json of {tmp_path.name} is no model"):
        read_sizes(tmp_path)


def test_where_memory_is_not_known_a_baseline_is_tried(monkeypatch):
    told(monkeypatch, {"subject": "baseline"})
    monkeypatch.setattr(machine, "limit_bytes", lambda: None)
    models = speed.Models(synthetic=True, baseline="tiny")
    assert list(speed.run_baseline(models, speed.QUICK)) == [{"subject": "baseline"}]


@pytest.mark.parametrize("rounds", [1, 5])
def test_calls_at_once_are_warmed_up_however_few_rounds_are_timed(rounds):
    asked = []

    class Clock:
        def call(self, name, **args):
            asked.append(args["num"])
            seconds = 9.0 if len(asked) <= 2 else 0.5
            return {"num": args["num"], "seconds": seconds, "together": args["at_once"]}

    found = speed.time_calls(Clock(), speed.SpeedPlan(rounds=rounds), 4)
    assert len(asked) == 2 + rounds
    assert (found["num"], found["min"]) == (rounds, asked[-1] / 0.5)
    assert "together" not in found


def test_rounds_after_the_warm_ups_count_and_no_others():
    """A worker whose first two of everything are slow, and each after it unlike the others."""
    asked: Counter[str] = Counter()

    class Scripted:
        def call(self, name, **args):
            if name in ("memory", "expected"):
                return {"peak_bytes": 1}
            key = f"{name} {args.get('warm', args.get('at_once'))}"
            asked[key] += 1
            seconds = 64.0 if asked[key] <= 2 else 2.0 ** -asked[key]
            taken = {"prefill_s": seconds, "decode_s": seconds, "seconds": seconds}
            return taken | {"num": args.get("num"), "together": args.get("at_once")}

    plan = speed.SpeedPlan(num_prompt=24, num_decode=9, warmups=2, rounds=3, at_once=(1, 4))
    found = speed._measure_loaded(Scripted(), plan, lambda what: None)
    assert set(asked.values()) == {5}
    assert found["prefill_tok_s"]["samples"] == [24 * 8, 24 * 16, 24 * 32]
    assert found["decode_tok_s"]["samples"] == [8 * 8, 8 * 16, 8 * 32]  # the prompt gives the first
    assert found["ttft_cold_s"]["samples"] == found["ttft_warm_s"]["samples"]
    assert found["ttft_warm_s"]["samples"] == pytest.approx([1 / 8, 1 / 16, 1 / 32], rel=1e-3)
    for at_once in (1, 4):
        rates = [8 * 8, 8 * 16, 8 * 32]  # of eight calls each
        assert found["calls_s"][str(at_once)]["samples"] == rates


def test_fewer_that_decode_together_than_were_asked_for_are_told():
    class Small:
        def call(self, name, num, at_once, **_):
            return {"num": num, "seconds": 1.0, "together": min(at_once, 20)}

    found = {str(n): speed.time_calls(Small(), speed.QUICK, n) for n in (8, 32)}
    assert "together" not in found["8"]
    row = speed_row("program", "qwen3-0.6b", 4, 401.0, 358.1e6) | {"calls_s": found}
    made = report.make("speed", [row], {}, synthetic=False, start={})
    assert "4 bits: 20 of 32 at once decoded together." in terminal(made)


def test_a_report_tells_power_mode_and_matrix_units():
    made = report.make("speed", [], {}, synthetic=False, start={"power_mode": "high"})
    made["machine"]["matrix_units"] = False
    text = " ".join(terminal(made).split())
    assert "start: high power mode" in text
    assert "its matrix units out of reach" in text


def test_a_ceiling_is_bandwidth_by_bytes_where_bandwidth_is_known():
    assert speed.ceiling(335_400_000, 546.0) == pytest.approx(1628, rel=1e-3)
    assert speed.ceiling(10**9, [300.0, 400.0]) == [300.0, 400.0]
    assert speed.ceiling(10**9, None) is None
    assert speed.ceiling(None, 546.0) is None  # a family that is not known


def skipped(monkeypatch, gpu_bytes: int | None, **models) -> str:
    """Why a baseline is skipped on a machine whose GPU may use so much; None for no GPU."""
    device = "cpu" if gpu_bytes is None else "gpu"
    told = machine.Library(device=device, gpu_bytes=gpu_bytes)
    monkeypatch.setattr(machine, "mlx", lambda: told)
    (row,) = speed.run_baseline(speed.Models(**models), speed.QUICK)
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
