"""`paw-mlx tune` on a tiny base: what is promoted, what stays, and why."""

from __future__ import annotations

import json
import random
import time

import pytest
import small_tunings as small
import tiny

from paw_mlx import formats, jobs, kept_cases, store
from paw_mlx.cases import Case, write_kept

pytestmark = pytest.mark.slow

CASES = [Case(t, small.right(t)) for t in random.Random(2).sample(small.INPUTS, 100)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    base = small.make_base(tmp_path_factory.mktemp("base"))
    return base.path, small.make_program(base, CASES[:40], 20)


@pytest.fixture
def quick(made) -> list[str]:
    """Store the program, and return the options of a quick tuning."""
    assert store.add(made[1], "triage", profile=tiny.profile("llama")) == 1
    return ["--interpreter", str(made[0]), "--steps", "30", "--learning-rate", "3e-3"]


def test_a_better_program_becomes_the_current_one_and_can_be_undone(call, quick):
    kept_cases.add("triage", CASES)
    done = call("tune", "triage", *quick)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0].split() == ["60", "unseen", "cases", "(5", "folds)", "right", "accuracy"]
    assert lines[1].startswith("triage@v1")
    assert lines[-1].startswith("triage is now v2: of 60 cases it is right on ")
    assert "`paw-mlx rollback triage` undoes it" in done.stderr
    assert store.current("triage") == 2
    old, new = (formats.load(store.find(f"triage@v{version}")) for version in (1, 2))
    assert old.template == new.template
    assert old.adapter.dtypes == new.adapter.dtypes
    assert [case.input for case in kept_cases.read("triage")] == [case.input for case in CASES]
    assert b"triage is now v1" in call("rollback", "triage").stdout


def test_without_a_gain_the_old_program_stays_and_the_new_one_is_written(call, quick, tmp_path):
    (tmp_path / "cases.jsonl").write_bytes(write_kept(CASES[40:43]))
    out = tmp_path / "out.paw"
    words = ["tune", "triage", *quick, "--cases", tmp_path / "cases.jsonl"]
    done = call(*words)
    assert done.returncode == 0
    assert b"triage stays v1: the old one is right on" in done.stdout
    assert store.current("triage") == 1
    record = json.loads(call(*words, "-o", out, "--json", "--steps", "2").stdout)
    assert (record["promoted"], record["version"], record["path"]) == (False, 1, str(out))
    assert record["verdict"]["num_needed"] > 3
    assert formats.load(out).spec == "Triage."


def test_a_gate_that_fails_keeps_the_old_program_and_ends_with_1(call, quick):
    kept_cases.add("triage", CASES)
    done = call("tune", "triage", *quick, "--gate", "accuracy>=0.999")
    assert done.returncode == 1
    assert b"triage stays v1: it fails the gate: accuracy is" in done.stdout
    assert store.current("triage") == 1


def test_a_version_that_came_meanwhile_is_not_replaced(call, quick, made, monkeypatch):
    from paw_mlx.training import tune as tuning

    kept_cases.add("triage", CASES)
    fit = tuning.fit_adapter

    def while_training(*args, **others):
        if store.current("triage") == 1:
            store.add(tiny.program("llama", 7), "triage", profile=tiny.profile("llama"))
        return fit(*args, **others)

    monkeypatch.setattr(tuning, "fit_adapter", while_training)
    done = call("tune", "triage", *quick)
    assert done.returncode == 1
    assert "error: v2 is the current version of triage by now, not v1" in done.stderr
    assert store.current("triage") == 2


def test_contradictions_are_named(call, quick, tmp_path):
    rows = [{"input": c.input, "output": c.output} for c in CASES[40:46]]
    rows.append({"input": rows[1]["input"], "output": "AB".replace(rows[1]["output"], "")})
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    done = call("tune", "triage", *quick, "--cases", path)
    assert "left out, since they contradict each other: line 2, line 7" in done.stderr


def test_what_cannot_be_tuned_is_one_sentence(call, quick, tmp_path):
    done = call("tune", "triage", *quick)
    assert "error: no cases are kept with triage" in done.stderr
    for name in ("triage@v1", str(tmp_path / "triage.paw")):
        done = call("tune", name, *quick)
        assert done.returncode == 1
        assert "is no name of a stored program, and only that can be tuned" in done.stderr
    assert "error: no program 'other'" in call("tune", "other", *quick).stderr


def test_in_the_background_a_job_does_it(call, quick, tmp_path):
    (tmp_path / "cases.jsonl").write_bytes(write_kept(CASES))
    words = ["tune", "triage", *quick, "--cases", str(tmp_path / "cases.jsonl"), "--background"]
    done = call(*words)
    assert done.stdout == (b"tune-1 goes on in the background: see `paw-mlx jobs show tune-1`\n")
    deadline = time.monotonic() + 120
    job = jobs.read("tune-1")
    while (jobs.read(job.id).state == "running" or job.work.exists()) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    log = "\n".join(jobs.tail(job, 99))
    assert jobs.read(job.id).state == "done", log
    assert "training 1 of 6" in log
    assert "triage is now v2" in log
    assert store.current("triage") == 2
