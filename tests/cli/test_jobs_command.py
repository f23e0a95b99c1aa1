"""`paw-mlx jobs`: what a user sees of work in the background."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from paw_mlx import jobs


@pytest.fixture
def waiting(tmp_path) -> jobs.Job:
    """A job that waits for its spec, from a pipe, until it is killed."""
    os.mkfifo(tmp_path / "pipe")
    words = ["-f", str(tmp_path / "pipe"), "--examples", "none.jsonl", "-o", "out.paw"]
    return jobs.start(["train", *words])


def test_no_jobs_are_no_error(call):
    done = call("jobs")
    assert (done.returncode, done.stdout) == (0, b"")
    assert "there are no jobs" in done.stderr
    assert json.loads(call("jobs", "--json").stdout) == {"jobs": []}


def test_an_interrupted_job_is_listed_with_the_way_out_and_resumed(call, waiting):
    os.kill(waiting.pid or 0, signal.SIGKILL)
    os.waitpid(waiting.pid or 0, 0)
    done = call("jobs")
    assert b"train-1  interrupted  20" in done.stdout
    assert "train-1 was interrupted: go on with `paw-mlx jobs resume train-1`" in done.stderr
    assert json.loads(call("jobs", "--json").stdout)["jobs"][0]["state"] == "interrupted"
    assert call("jobs", "resume", "train-1").stdout == b"train-1 goes on in the background\n"
    again = call("jobs", "resume", "train-1")
    assert again.returncode == 1
    assert "error: job train-1 is running" in again.stderr
    refused = call("jobs", "rm", "train-1")
    assert "hint: paw-mlx jobs stop train-1" in refused.stderr
    stopped = call("jobs", "stop", "train-1")
    assert stopped.stdout == b"stopped train-1; `paw-mlx jobs resume train-1` goes on\n"
    assert b"train-1  stopped" in call("jobs").stdout
    assert call("jobs", "rm", "train-1").stdout == b"removed train-1\n"
    assert "there are no jobs" in call("jobs").stderr


def test_a_job_that_failed_shows_why(call, tmp_path):
    job = jobs.start(["inspect", str(tmp_path / "none.paw")])
    while jobs.read(job.id).state == "running":
        time.sleep(0.05)
    shown = call("jobs", "show", "inspect-1")
    head, command, *log = shown.stdout.decode().splitlines()
    assert head.startswith("inspect-1: failed (exit code 1), started 20")
    assert command == f"$ paw-mlx inspect {tmp_path}/none.paw"
    assert "error:" in log[1]
    assert f"the whole log: {job.log}" in shown.stderr
    record = json.loads(call("jobs", "show", "inspect-1", "--json", "-n", "1").stdout)
    assert (record["exit_code"], len(record["lines"])) == (1, 1)


def test_what_is_no_job_is_one_sentence(call):
    for verb in ("show", "resume", "stop", "rm"):
        done = call("jobs", verb, "tune-7")
        assert done.returncode == 1
        assert "error: there is no job 'tune-7'\nhint: `paw-mlx jobs` lists them." in done.stderr
        record = json.loads(call("jobs", verb, "../x", "--json").stdout)
        assert record["error"]["code"] == "NotFound"
