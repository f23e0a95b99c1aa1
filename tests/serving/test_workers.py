"""Workers: the same rows as in this process, whoever is killed, and nobody left behind."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from daemons import LABELS, Place

import paw_mlx as paw
from paw_mlx.functions import Function
from paw_mlx.interpreter.engine import budget
from paw_mlx.runner import Options, Result
from paw_mlx.serving.workers import Workers, open_workers

TEXTS = [f"{word} {number}" for number in range(100) for word in LABELS]
LONG = {"max_tokens": 200, "temperature": 2.0, "seed": 5}  # some tenths of a second
_LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, where workers keep what they are given."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def opened(place: Place, name: str, num_workers: int = 2, **keywords: object) -> Function:
    path = place.folder / f"{name}.paw"
    return open_workers(path, num_workers, interpreter=str(place.base), **keywords)


def here(place: Place, name: str, **keywords: object) -> Function:
    path = place.folder / f"{name}.paw"
    return paw.function(path, interpreter=str(place.base), **keywords)


def workers_of(fn: Function) -> Workers:
    assert isinstance(fn.runner, Workers)
    return fn.runner


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended, as one does that nobody waited for."""
    words = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return bool(state) and not state.startswith("Z")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told(result: Result | paw.PawError) -> object:
    """All of an outcome but its seconds."""
    if isinstance(result, paw.PawError):
        return type(result), str(result), result.hints
    timed = ("seconds", "prefill_s", "decode_s", "tok_s", "num_steps")
    record = {name: value for name, value in result.record().items() if name not in timed}
    return record, result.value


def outcome(future: Future[Result]) -> Result | paw.PawError:
    try:
        return future.result(_LIMIT_S)
    except paw.PawError as error:
        return error


def same(mine: object, theirs: object) -> bool:
    """Whether two outcomes are equal, their floats as near as another batch leaves them."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return mine.keys() == theirs.keys() and all(same(mine[k], theirs[k]) for k in mine)
    if isinstance(mine, tuple | list) and isinstance(theirs, tuple | list):
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    if isinstance(mine, float):
        return mine == pytest.approx(theirs, abs=1e-5)
    return mine == theirs


TYPES: dict[str, dict[str, object]] = {
    "one": {},
    "labels": {"threshold": 0.4, "otherwise": "picnic"},
    "two": {"schema": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_every_row_is_what_it_is_in_this_process(place: Place, name: str) -> None:
    if name == "two":
        pytest.importorskip("llguidance")
    texts = [*TEXTS[:40], "disk " * 400, "", "\ud800 server"]
    options = Options(max_tokens=None if name == "labels" else 8)
    local = here(place, name, **TYPES[name])
    expected = [told(outcome(local.submit(text, options))) for text in texts]
    assert len(set(map(repr, expected))) > 3
    fn = opened(place, name, **TYPES[name])
    with closing(fn.runner):
        assert fn.runner.identity == local.runner.identity
        assert fn.runner.max_in_flight == 2 * local.runner.max_in_flight
        futures = [fn.submit(text, options) for text in texts]
        found = [told(outcome(future)) for future in futures]
        for mine, theirs in zip(expected, found, strict=True):
            assert same(mine, theirs), (mine, theirs)
        assert same(told(fn.run("disk 1", options)), told(local.run("disk 1", options)))
        if name == "one":
            assert list(fn.map(TEXTS, options)) == list(local.map(TEXTS, options))
            long = Options(overflow="head", max_tokens=4)
            cut = [one.runner.cut_tokens(one.program, "disk " * 400, long) for one in (fn, local)]
            assert cut[0] == cut[1] > 0
            assert "".join(fn.stream("disk 1", options)) == local("disk 1", max_tokens=8)


def test_calls_go_to_whoever_has_the_fewest(place: Place) -> None:
    fn = opened(place, "one")
    with closing(fn.runner):
        first = workers_of(fn).pids[0]
        os.kill(first, signal.SIGSTOP)
        try:
            stuck = fn.submit("disk", max_tokens=4)
            for text in TEXTS[:10]:
                assert fn.submit(text, max_tokens=4).result(_LIMIT_S)
            assert not stuck.done()
        finally:
            os.kill(first, signal.SIGCONT)
        assert stuck.result(_LIMIT_S)


def test_the_killed_are_replaced_and_no_row_is_lost_or_there_twice(place: Place) -> None:
    options = Options(max_tokens=40)
    expected = [here(place, "one").submit(text, options) for text in TEXTS]
    right = [future.result(_LIMIT_S).text for future in expected]
    assert len(set(right)) > 100
    fn, answered, lock = opened(place, "one"), Counter[int](), threading.Lock()
    with closing(fn.runner):
        first = workers_of(fn).pids

        def hear(number: int) -> None:
            with lock:
                answered[number] += 1
                num_first = sum(one % 2 == 0 for one in answered)  # the first worker's
            if number % 2 == 0 and num_first in (10, 80):
                os.kill(workers_of(fn).pids[0], signal.SIGKILL)

        futures = []
        for number, text in enumerate(TEXTS):  # heard at once: later, all may have been answered
            futures.append(fn.submit(text, options))
            futures[-1].add_done_callback(lambda _, number=number: hear(number))
        assert [future.result(_LIMIT_S).text for future in futures] == right
        assert workers_of(fn).pids[1] == first[1]
        # It may have answered all before the first kill; then it is replaced when it is needed.
        more = [fn.submit(text, options) for text in TEXTS[:8]]
        assert [future.result(_LIMIT_S).text for future in more] == right[:8]
        assert workers_of(fn).pids[0] != first[0]
    assert set(answered.values()) == {1}
    assert len(answered) == len(TEXTS)


def test_only_what_the_killed_had_is_run_again(place: Place) -> None:
    """What is drawn without a seed would be another output if it were drawn again."""
    fn = opened(place, "one")
    with closing(fn.runner):
        first, second = workers_of(fn).pids
        os.kill(second, signal.SIGSTOP)
        futures = [fn.submit(text, max_tokens=8, temperature=2.0) for text in TEXTS[:20]]
        until(lambda: sum(future.done() for future in futures) == 10)
        before = [future.result().text for future in futures if future.done()]
        os.kill(second, signal.SIGKILL)
        assert not wait(futures, _LIMIT_S).not_done
        assert [future.result().text for future in futures[::2]] == before
        assert workers_of(fn).pids[0] == first


def test_one_that_is_killed_while_it_loads_is_replaced(place: Place) -> None:
    before, killed = _children(), list[int]()

    def kill() -> None:
        while not (born := _children() - before):
            time.sleep(0.005)
        killed.append(int(born.pop().split()[0]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    fn = opened(place, "one")
    with closing(fn.runner):
        killer.join()
        local = here(place, "one")
        assert list(fn.map(TEXTS[:20], max_tokens=8)) == list(local.map(TEXTS[:20], max_tokens=8))
        assert killed[0] not in workers_of(fn).pids


def test_half_an_output_is_not_begun_again(place: Place) -> None:
    fn = opened(place, "one", 1)
    with closing(fn.runner):
        pieces = fn.stream("disk", **LONG)
        assert next(pieces)
        os.kill(workers_of(fn).pids[0], signal.SIGKILL)
        with pytest.raises(paw.DaemonError, match="in the middle of the output"):
            list(pieces)
        assert fn("disk", max_tokens=4) is not None


def test_results_in_between_make_deaths_bearable(place: Place) -> None:
    fn = opened(place, "one", 1)
    with closing(fn.runner):
        first = fn("disk", max_tokens=8)
        for _ in range(4):
            os.kill(workers_of(fn).pids[0], signal.SIGKILL)
            assert fn("disk", max_tokens=8) == first


def test_three_deaths_in_a_row_are_one_sentence(place: Place) -> None:
    fn = opened(place, "one", 1)
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.02):
            for pid in workers_of(fn).pids:
                with suppress(ProcessLookupError):  # its end may have been seen before we could
                    os.kill(pid, signal.SIGKILL)

    with closing(fn.runner):
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with pytest.raises(paw.DaemonError, match=r"3 workers in a row .* signal 9") as caught:
                list(fn.map(TEXTS, max_tokens=40))
        finally:
            stop.set()
            killer.join()
        assert caught.value.hints
        for _ in range(2):
            with pytest.raises(paw.DaemonError, match="3 workers in a row"):
                fn("disk")
            with pytest.raises(paw.DaemonError, match="3 workers in a row"):
                list(fn.map(TEXTS, on_error="return"))


def test_a_base_that_does_not_load_is_the_same_sentence(place: Place, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(place.base, base)
    (base / "config.json").write_text("{}")
    path, before = place.folder / "one.paw", _children()
    with pytest.raises(paw.PawError) as local:
        paw.function(path, interpreter=str(base))
    for num_workers in (1, 3):
        with pytest.raises(type(local.value)) as remote:
            open_workers(path, num_workers, interpreter=str(base))
        assert told(remote.value) == told(local.value)
    assert _children() == before
    with pytest.raises(paw.NotFound, match="nowhere"):
        open_workers(path, 2, interpreter=str(tmp_path / "nowhere"))
    with pytest.raises(paw.OptionError, match="at least 1, not 0"):
        open_workers(path, 0, interpreter=str(place.base))


def test_a_base_that_went_away_ends_the_run_and_not_row_by_row(
    place: Place, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(place.base, base)
    fn = open_workers(place.folder / "one.paw", 1, interpreter=str(base))
    with closing(fn.runner):
        (base / "config.json").write_text("{}")
        os.kill(workers_of(fn).pids[0], signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(paw.FormatError):
                fn("disk")
        with pytest.raises(paw.FormatError):
            list(fn.map(TEXTS, on_error="return"))


def test_a_warning_is_said_once_and_strict_refuses(place: Place, tmp_path: Path) -> None:
    other = replace(tiny.program("llama", 1), meta={"interpreter_fingerprint": "0" * 64})
    path = tmp_path / "other.paw"
    paw.save(other, path, dtype="f32", profile=tiny.profile("llama"))
    with pytest.warns(paw.DriftWarning) as said:
        fn = open_workers(path, 2, interpreter=str(place.base))
    with closing(fn.runner):
        assert [(one.category, one.filename) for one in said] == [(paw.DriftWarning, __file__)]
    with pytest.raises(paw.AdapterMismatch):
        open_workers(path, 2, interpreter=str(place.base), strict=True)
    before = _children()
    with pytest.raises(paw.DriftWarning) as kept:  # warnings are errors here
        open_workers(path, 2, interpreter=str(place.base))
    assert _children() == before, kept


def test_a_cancelled_call_is_cancelled_where_it_runs(place: Place) -> None:
    fn = opened(place, "one", 1)
    with closing(fn.runner):
        begin = time.monotonic()
        futures = [fn.submit(f"disk {number}", **LONG) for number in range(200)]
        assert not wait(futures, _LIMIT_S).not_done
        all_s = time.monotonic() - begin
        futures = [fn.submit(f"server {number}", **LONG) for number in range(200)]
        assert sum(future.cancel() for future in futures) > 150
        begin = time.monotonic()
        assert fn.submit("disk", max_tokens=2).result(_LIMIT_S)
        assert time.monotonic() - begin < all_s / 3


def test_nothing_is_left_when_it_is_closed_or_dropped(place: Place, folders: Path) -> None:
    for end in ("close", "drop"):
        fn = opened(place, "one")
        pids = workers_of(fn).pids
        assert fn("disk", max_tokens=2) is not None
        assert len(list(folders.iterdir())) == 2
        future = fn.submit("disk", **LONG)
        if end == "close":
            fn.runner.close()
            with pytest.raises(paw.ClosedError):
                future.result(_LIMIT_S)
            with pytest.raises(paw.ClosedError, match="closed"):
                fn("disk")
            fn.runner.close()
        else:
            future.cancel()
            del fn, future
            gc.collect()
        assert not any(map(lives, pids))
        assert list(folders.iterdir()) == []


PARENT = """
import sys
from paw_mlx.serving.workers import open_workers
fn = open_workers({path!r}, 2, interpreter={base!r})
assert "mlx.core" not in sys.modules
futures = [fn.submit(f"disk {{n}}", max_tokens=200, temperature=2.0, seed=n) for n in range(5000)]
print(*fn.runner.pids, flush=True)
futures[-1].result()
"""


@pytest.fixture
def parent(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has two workers and much to do."""
    code = PARENT.format(path=str(place.folder / "one.paw"), base=str(place.base))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_with_its_parent_a_worker_ends(
    parent: subprocess.Popen[bytes], folders: Path, number: signal.Signals
) -> None:
    assert parent.stdout
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(lives, pids))
    os.killpg(parent.pid, number)  # as a terminal does
    said = parent.communicate(timeout=_LIMIT_S)[1].decode()
    assert parent.returncode == -number
    assert said.count("Traceback") == (number == signal.SIGINT), said
    until(lambda: not any(map(lives, pids)))
    assert list(folders.iterdir()) == []


def test_workers_share_a_budget_of_memory_and_the_cores(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = budget.Share()
    whole = alone.bytes()
    budget.divide(4)
    try:
        assert alone.bytes() == whole // 4
    finally:
        budget.divide(1)
        alone.release()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    fn = opened(place, "one")
    with closing(fn.runner):
        environments = [Path(f"/proc/{pid}/environ") for pid in workers_of(fn).pids]
        if environments[0].exists():
            cores = max(1, len(os.sched_getaffinity(0)) // 2)
            for environment in environments:
                assert f"OMP_NUM_THREADS={cores}".encode() in environment.read_bytes().split(b"\0")


def _children() -> set[str]:
    """The processes that are this one's, but for those that look."""
    said = subprocess.check_output(["ps", "-A", "-o", "ppid=,pid=,command="], text=True)
    lines = (line.split(maxsplit=1) for line in said.splitlines())
    return {rest for parent, rest in lines if parent == str(os.getpid()) and "ps -A" not in rest}
