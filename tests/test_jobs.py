"""Jobs: real processes that outlive who started them, are killed, and go on."""

from __future__ import annotations

import json
import os
import plistlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import shell

from paw_mlx import jobs, settings
from paw_mlx.errors import FormatError, NotFound, OptionError
from paw_mlx.jobs import Job
from paw_mlx.jobs import job as job_file

_LIMIT_S = 60


def wait_for(state: str, job: Job) -> Job:
    deadline = time.monotonic() + _LIMIT_S
    while jobs.read(job.id).state != state:
        assert time.monotonic() < deadline, (jobs.read(job.id), jobs.tail(job, 20))
        time.sleep(0.05)
    return jobs.read(job.id)


@pytest.fixture
def waiting(tmp_path) -> Iterator[Callable[[], Job]]:
    """What starts a job that waits for a text until it is killed: the spec comes from a pipe."""
    pipe, started = tmp_path / "pipe", list[Job]()
    os.mkfifo(pipe)

    def start() -> Job:
        words = ["train", "-f", str(pipe), "--examples", "none.jsonl", "-o", "out.paw"]
        started.append(jobs.start(words))
        return started[-1]

    yield start
    for job in started:
        if job.folder.exists() and jobs.read(job.id).state == "running":
            with suppress(ProcessLookupError):  # killed already, and about to let go of its lock
                os.kill(jobs.read(job.id).pid or 0, signal.SIGKILL)


def kill(job: Job) -> None:
    assert job.pid
    os.kill(job.pid, signal.SIGKILL)
    wait_for("interrupted", job)


def test_a_job_is_done_elsewhere_and_leaves_its_log(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    job = jobs.start(["jobs", "ls", "--json"])
    assert job.pid not in (None, os.getpid())
    done = wait_for("done", job)
    assert (done.exit_code, done.cwd, done.id) == (0, str(tmp_path), "jobs-1")
    first, *printed = jobs.tail(job, 9)
    assert first.endswith("$ paw-mlx jobs ls --json")
    assert json.loads("".join(printed))["jobs"][0]["state"] == "running"  # so it saw itself
    assert [one.id for one in jobs.entries()] == ["jobs-1"]
    with pytest.raises(OptionError, match="job jobs-1 is done"):
        jobs.resume(job.id)
    assert jobs.start(["jobs", "ls"]).id == "jobs-2"


def test_a_job_that_fails_says_so(tmp_path):
    job = jobs.start(["inspect", str(tmp_path / "none.paw")])
    failed = wait_for("failed", job)
    assert failed.exit_code == 1
    assert any("error:" in line for line in jobs.tail(job, 5))


def test_a_job_outlives_its_terminal(waiting):
    job = waiting()
    assert os.getsid(job.pid or 0) == job.pid  # a hangup of the terminal's session passes it by
    kill(job)


def test_a_killed_job_is_interrupted_and_goes_on(waiting):
    job = waiting()
    assert jobs.read(job.id).state == "running"
    kill(job)
    again = jobs.resume(job.id)
    assert again.pid != job.pid
    assert jobs.read(job.id).state == "running"
    with pytest.raises(OptionError, match="job train-1 is running"):
        jobs.resume(job.id)
    kill(again)


def test_two_resumes_at_once_start_one(waiting):
    job = waiting()
    for _ in range(2):
        kill(jobs.read(job.id))
        both = [shell.start("jobs", "resume", job.id) for _ in range(2)]
        said = [(one.communicate(), one.returncode) for one in both]
        assert sorted(code for _, code in said) == [0, 1]
        error = next(streams[1].decode() for streams, code in said if code)
        assert "error: job train-1 is running" in error
        assert jobs.read(job.id).state == "running"


def test_a_job_that_was_stopped_can_be_resumed(waiting):
    job = waiting()
    jobs.stop(job.id)
    assert jobs.read(job.id).state == "stopped"
    assert os.waitstatus_to_exitcode(os.waitpid(job.pid or 0, 0)[1]) == -signal.SIGTERM
    with pytest.raises(OptionError, match="is not running: it is stopped"):
        jobs.stop(job.id)
    assert jobs.resume(job.id).state == "running"


def test_another_process_of_the_same_number_is_let_be(waiting):
    job = waiting()
    kill(job)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        record = job.folder / "job.json"
        stale = json.loads(record.read_text()) | {"state": "running", "pid": other.pid}
        record.write_text(json.dumps(stale))
        assert jobs.read(job.id).state == "interrupted"  # nobody holds the lock
        with pytest.raises(OptionError, match="is not running"):
            jobs.stop(job.id)
        alive = jobs.resume(job.id)
        record.write_text(json.dumps(stale))  # as between the lock and the first word of its holder
        with pytest.raises(OptionError, match="is not running"):
            jobs.stop(job.id)
        assert other.poll() is None
        os.kill(alive.pid or 0, signal.SIGKILL)
        other.communicate(b"\n")


def test_a_job_is_removed_but_not_under_its_process(waiting):
    job = waiting()
    with pytest.raises(OptionError, match="is running"):
        jobs.remove(job.id)
    kill(job)
    jobs.remove(job.id)
    assert not job.folder.exists()
    with pytest.raises(NotFound, match="there is no job 'train-1'"):
        jobs.read(job.id)


def test_a_damaged_or_strange_job_is_one_sentence(waiting):
    job = waiting()
    kill(job)
    record = (job.folder / "job.json").read_text()
    others = ("[" * 100_000, record.replace("train-1", "other"))
    for damage in ("", "{}", "[1]", '{"id": 3}', '{"argv": 3}', *others):
        (job.folder / "job.json").write_text(damage)
        with pytest.raises(FormatError, match=r"job.json is damaged"):
            jobs.read(job.id)
    (job.folder / "job.json").write_text(record)
    for id in ("../programs", "", "a/b", "A", "x" * 200):
        with pytest.raises(NotFound, match="there is no job"):
            jobs.read(id)


def test_a_job_whose_folder_is_gone_fails_in_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    job = Job("ls-1", ("ls",), str(tmp_path / "gone"), time.time(), "interrupted")
    job_file.write(job, job.folder)
    jobs.resume(job.id)
    assert wait_for("failed", job).exit_code == 1
    while not (said := jobs.tail(job, 1)):
        time.sleep(0.05)
    assert f"error: cannot go to {tmp_path}/gone: No such file or directory" in said[0]


def test_launchd_is_told_of_a_job_until_it_is_done(monkeypatch, tmp_path, waiting):
    agents = tmp_path / "Library" / "LaunchAgents"
    monkeypatch.setattr(settings, "launch_agents", lambda: agents)
    monkeypatch.setenv("HF_TOKEN", "a secret")
    job = waiting()
    told = plistlib.loads((agents / "paw-mlx.train-1.plist").read_bytes())
    assert told["ProgramArguments"] == [
        sys.executable,
        "-P",
        "-m",
        "paw_mlx",
        "jobs",
        "run",
        job.id,
    ]
    paths = [told[k] for k in ("WorkingDirectory", "StandardOutPath", "StandardErrorPath")]
    assert all(Path(path).is_absolute() for path in [*paths, told["ProgramArguments"][0]])
    assert told["RunAtLoad"] is True
    assert told["Label"] == "paw-mlx.train-1"
    assert told["EnvironmentVariables"]["PAW_MLX_HOME"] == str(settings.data_dir())
    assert "HF_TOKEN" not in told["EnvironmentVariables"]
    kill(job)  # as a reboot does: then launchd runs what it was told
    again = subprocess.Popen(
        told["ProgramArguments"], env=os.environ | told["EnvironmentVariables"]
    )
    while jobs.read(job.id).pid != again.pid:
        assert again.poll() is None
        time.sleep(0.05)
    assert jobs.read(job.id).state == "running"
    assert subprocess.run(told["ProgramArguments"]).returncode == 0  # and once: the other sits back
    assert jobs.read(job.id).pid == again.pid
    again.kill()
    again.wait()
    (job.folder / "job.json").write_text(
        json.dumps(json.loads((job.folder / "job.json").read_text()) | {"argv": ["jobs"]})
    )
    assert jobs.run(job.id, lambda argv: 0) == 0
    assert not list(agents.iterdir())


def test_without_a_place_for_the_agent_a_job_still_starts(monkeypatch, tmp_path, waiting):
    (tmp_path / "Library").write_text("no folder")
    monkeypatch.setattr(settings, "launch_agents", lambda: tmp_path / "Library" / "LaunchAgents")
    with pytest.warns(
        UserWarning, match=r"after a reboot, go on with `paw-mlx jobs resume train-1`"
    ):
        job = waiting()
    assert jobs.read(job.id).state == "running"


def test_a_job_knows_itself_and_lets_its_checkpoints_go_when_it_is_done(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    job = Job("ls-1", ("ls",), str(tmp_path), time.time(), "interrupted")
    job_file.write(job, job.folder)

    def work(code: int) -> Callable[[list[str]], int]:
        def call(argv: list[str]) -> int:
            assert replace(jobs.current() or job, began=None).id == job.id
            job.work.mkdir(exist_ok=True)
            return code

        return call

    assert jobs.run(job.id, work(130)) == 130
    assert jobs.read(job.id).state == "interrupted"
    assert job.work.exists()
    assert jobs.run(job.id, work(0)) == 0
    assert jobs.read(job.id).state == "done"
    assert not job.work.exists()
    assert jobs.current() is None
    assert jobs.run(job.id, work(0)) is None  # done is done
