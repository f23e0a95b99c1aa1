"""The processes that measure: what comes back from one, and what ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paw_mlx import errors
from paw_mlx.benchmarks.speed.worker import Worker
from paw_mlx.errors import HubError, InputTooLong, PawError


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Processes find this module, as pytest does."""
    paths = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


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

    def pid(self) -> int:
        return os.getpid()

    def sleep(self) -> None:
        time.sleep(60)

    def refuse(self, kind: str) -> None:
        if kind == "hub":
            raise HubError("a", hint="b")
        raise errors.PseudoProgramError("a", "the answer")


def test_what_libraries_print_does_not_reach_the_protocol():
    with Worker(Subject) as worker:
        assert worker.call("answer", text="é\n") == "é\n"
        assert worker.call("answer", text="again") == "again"


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('taken from the current folder')")
    monkeypatch.chdir(tmp_path)
    with Worker(Subject) as worker:
        assert worker.call("answer", text="a") == "a"


def test_an_error_comes_out_as_itself_and_a_bug_with_its_traceback():
    with Worker(Subject) as worker:
        with pytest.raises(InputTooLong, match=r"^it is too long") as found:
            worker.call("fail")
        assert found.value.hints == ["Cut it."]
        with pytest.raises(RuntimeError, match=r"in stumble\n(.|\n)*ZeroDivisionError: a bug"):
            worker.call("stumble")
        with pytest.raises(PawError, match=r"out of memory: \[malloc\]"):
            worker.call("exhaust")
        assert worker.call("answer", text="alive") == "alive"
    with pytest.raises(errors.OptionError, match="no such thing"):
        Worker(Subject, fails=True)


def test_a_dying_process_is_one_sentence():
    for number, why in ((signal.SIGKILL, "signal 9: out of memory?"), (signal.SIGABRT, "signal 6")):
        with Worker(Subject) as worker, pytest.raises(PawError) as found:
            worker.call("die", number=int(number))
        assert str(found.value) == f"the process that measured Subject was killed by {why}"
    with Worker(Subject) as worker, pytest.raises(PawError) as found:
        worker.call("abort")
    assert str(found.value).endswith("killed by signal 6: [METAL] Insufficient Memory")
    assert found.value.hints == ["Choose a smaller model, or fewer bits."]
    with Worker(Subject) as worker:
        with pytest.raises(PawError, match=r"ended with exit code 3: no such library$"):
            worker.call("leave")
        with pytest.raises(PawError, match="exit code 3"):  # and it stays dead
            worker.call("answer", text="a")


def test_a_process_ends_with_its_parent_in_the_middle_of_a_call():
    code = f"from paw_mlx.benchmarks.speed.worker import Worker; from {__name__} import Subject\n"
    code += "w = Worker(Subject); print(w.call('pid'), flush=True); w.call('sleep')"
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
    with Worker(Subject) as worker:
        with pytest.raises(HubError, match=r"^a\b") as found:
            worker.call("refuse", kind="hub")
        assert found.value.hints == ["b"]
        with pytest.raises(errors.PseudoProgramError) as other:
            worker.call("refuse", kind="compile")
        assert other.value.answer == "the answer"
        assert len(other.value.hints) == 2
