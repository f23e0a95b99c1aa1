"""Rows on a Ray cluster of two nodes are those of `map` here, whatever dies meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray_clusters
import tiny
from limits import limited
from ray_clusters import kill, ray, texts, until, workers

import paw_mlx as paw
from paw_mlx import formats
from paw_mlx.functions import Function
from paw_mlx.rows import flow
from paw_mlx.rows.ray import dispatch, open_function

LABELS = ["down", "full", "quiet"]
SCHEMA = {"enum": [1, 22, {"n": 333}]}


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """What would wait for good fails."""
    with limited(180):
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ray_clusters.write_home(tmp_path_factory.mktemp("ray"))


@pytest.fixture(scope="module")
def here(home: Path) -> Iterator[paw.Interpreter]:
    with paw.Interpreter.load(str(home / "base")) as interpreter:
        yield interpreter


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[Any]:
    with ray_clusters.two_nodes(home) as cluster:
        yield cluster


@pytest.fixture
def there(cluster: Any, home: Path) -> Iterator[Function]:
    fn = open_function(home / "a.paw", interpreter=str(home / "base"))
    with closing(fn.runner):
        yield fn


def program(home: Path, name: str = "a") -> paw.Program:
    return formats.load(home / f"{name}.paw")


@pytest.mark.slow
def test_20_000_rows_are_those_of_map_with_a_worker_killed_twice(
    there: Function, here: paw.Interpreter, home: Path
) -> None:
    rows = texts(20_000)
    killed = []
    found = []
    for output in there.map(rows, max_tokens=2):
        if len(found) in (4000, 12_000):
            killed.append(workers()[0])
            kill(killed[-1])
        found.append(output)
    assert len({*killed}) == 2
    assert len({*found}) > 500
    assert found == list(here.function(program(home)).map(rows, max_tokens=2))
    assert until(lambda: len(workers()) == 2, 30), "no successor"


@pytest.mark.parametrize(
    "typed", [{"labels": LABELS}, {"labels": LABELS, "threshold": 0.5}, {"regex": "[a-z]{1,9}"}]
)
def test_outputs_of_a_type_come_with_all_that_they_have_here(
    cluster: Any, here: paw.Interpreter, home: Path, typed: dict[str, Any]
) -> None:
    fn = open_function(home / "a.paw", interpreter=str(home / "base"), num_workers=1, **typed)
    mine = here.function(program(home), **typed)
    with closing(fn.runner):
        for text in texts(12):
            there, this = fn.run(text, max_tokens=9), mine.run(text, max_tokens=9)
            assert (there.text, there.output) == (this.text, this.output)
            assert there.finish_reason == this.finish_reason
            if "labels" in typed:
                assert there.value == this.value
                assert there.decision
                assert this.decision
                assert there.decision.in_scope == pytest.approx(this.decision.in_scope, abs=1e-5)
                assert dict(there.decision.probabilities) == pytest.approx(
                    dict(this.decision.probabilities), abs=1e-5
                )


def test_json_of_a_schema_is_its_value(cluster: Any, here: paw.Interpreter, home: Path) -> None:
    fn = open_function(home / "a.paw", interpreter=str(home / "base"), num_workers=1, schema=SCHEMA)
    mine = here.function(program(home), schema=SCHEMA)
    with closing(fn.runner):
        assert list(fn.map(texts(30))) == [mine(text) for text in texts(30)]


def test_a_row_that_fails_has_the_error_that_it_has_here(
    there: Function, here: paw.Interpreter, home: Path
) -> None:
    rows: list[Any] = [*texts(5), "x" * 900, None, *texts(5, 1)]
    mine = here.function(program(home))
    found, expected = (
        [repr(one) for one in fn.map(rows, max_tokens=3, on_error="return")] for fn in (there, mine)
    )
    assert "InputTooLong" in found[5]
    assert "OptionError" in found[6]
    assert found == expected
    slow = list(there.map(texts(64), max_tokens=200, timeout_s=0.001, on_error="return"))
    assert any(isinstance(one, paw.CallTimeout) for one in slow)


def test_two_programs_run_on_one_set_of_workers(
    there: Function, here: paw.Interpreter, home: Path
) -> None:
    other = Function(there.runner, there.runner.programs.load(home / "b.paw"))
    calls = [(fn.submit(text, max_tokens=3)) for text in texts(200) for fn in (there, other)]
    found = [call.result(60).text for call in calls]
    assert found[::2] != found[1::2]
    for outputs, name in ((found[::2], "a"), (found[1::2], "b")):
        assert outputs == list(here.function(program(home, name)).map(texts(200), max_tokens=3))


def test_a_call_streams_says_what_it_cuts_and_can_be_cancelled(
    there: Function, here: paw.Interpreter, home: Path
) -> None:
    mine = here.function(program(home))
    assert "".join(there.stream("the disk", max_tokens=9)) == mine("the disk", max_tokens=9)
    options = paw.Options(overflow="head", max_tokens=4)
    cut = there.runner.cut_tokens(there.program, "disk " * 300, options)
    assert cut == here.cut_tokens(mine.program, "disk " * 300, options) > 0
    slow = [there.submit(f"{i} picnic", max_tokens=200) for i in range(2000)]
    assert all(call.cancel() for call in slow[1:] if not call.done())
    begin = time.monotonic()
    there("the disk", max_tokens=2)
    assert time.monotonic() - begin < 10


def test_what_is_read_is_little_more_than_what_is_in_work(there: Function) -> None:
    num_read = 0

    def endless() -> Iterator[str]:
        nonlocal num_read
        while True:
            num_read += 1
            yield f"the disk {num_read}"

    outputs = there.map(endless(), max_tokens=2)
    for _ in range(100):
        next(outputs)
    time.sleep(1)
    assert num_read <= 100 + flow.ROWS_PER_CALL * there.runner.max_in_flight
    outputs.close()


def test_a_base_that_a_worker_lacks_is_one_sentence(cluster: Any, home: Path) -> None:
    for base, kind, message in (
        ("smollm2-135m", paw.HubError, r"^on the node [\d.]+: .*offline"),
        ("/nowhere/base", paw.NotFound, r"^on the node [\d.]+: no base '/nowhere/base'"),
        ("qwen/nobody", paw.PawError, r"^on the node [\d.]+: "),
    ):
        begin = time.monotonic()
        with pytest.raises(kind, match=message) as caught:
            open_function(home / "a.paw", interpreter=base, offline=True)
        assert "\n" not in str(caught.value)
        assert base[0] != "/" or "lie there on every node" in " ".join(caught.value.hints)
        assert time.monotonic() - begin < 30
    assert until(lambda: not workers(), 10)


def test_a_program_for_another_base_is_refused(cluster: Any, home: Path) -> None:
    tiny.write_base(home / "gpt2", "gpt2")
    with pytest.raises(paw.AdapterMismatch):
        open_function(home / "a.paw", interpreter=str(home / "gpt2"), num_workers=1)
    with pytest.raises(paw.AdapterMismatch, match="records no fingerprint"):
        open_function(home / "a.paw", interpreter=str(home / "base"), num_workers=1, strict=True)


def test_a_refusal_that_is_kept_holds_no_worker(cluster: Any, home: Path) -> None:
    with pytest.raises(paw.AdapterMismatch) as kept:
        open_function(home / "a.paw", interpreter=str(home / "base"), num_workers=1, strict=True)
    assert until(lambda: ray.available_resources().get("CPU") == 2, 20), kept


def test_a_cluster_without_room_is_one_sentence(
    cluster: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_PLACE_S", 2.0)

    class Holder:
        def holds(self) -> bool:
            return True

    holders = [ray.remote(num_cpus=1)(Holder).remote() for _ in range(2)]  # another job's
    try:
        assert ray.get([holder.holds.remote() for holder in holders], timeout=60) == [True, True]
        with pytest.raises(paw.DaemonError, match=r"no node .* has had room .* for 2 s"):
            open_function(home / "a.paw", interpreter=str(home / "base"))
    finally:
        for holder in holders:
            ray.kill(holder)


def test_after_close_a_call_says_so(cluster: Any, home: Path) -> None:
    fn = open_function(home / "a.paw", interpreter=str(home / "base"), num_workers=1)
    waiting = fn.submit("the disk", max_tokens=200)
    fn.runner.close()
    fn.runner.close()
    for call in (waiting, fn.submit("the disk")):
        with pytest.raises(paw.ClosedError, match="the function on Ray was closed"):
            call.result(10)
    assert until(lambda: not workers(), 10)


def test_more_workers_than_cpus_share_them(cluster: Any, home: Path) -> None:
    fn = open_function(home / "a.paw", interpreter=str(home / "base"), num_workers=3)
    with closing(fn.runner):
        assert len(workers()) == 3
        assert len(list(fn.map(texts(200), max_tokens=2))) == 200
    for wrong in (0, -2):
        with pytest.raises(paw.OptionError, match=f"at least 1, not {wrong}"):
            open_function(home / "a.paw", interpreter=str(home / "base"), num_workers=wrong)


SCRIPT = """
import os, signal, subprocess, sys
from contextlib import closing
import paw_mlx as paw
from paw_mlx.rows.ray import dispatch, open_function

def kill_worker():
    rows = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in rows.stdout.splitlines()]
    parents = {row[0]: row[1] for row in rows}
    for pid, raylet, name in (row for row in rows if len(row) == 3):
        if name.startswith("ray::Worker") and parents[raylet] == str(os.getpid()):
            os.kill(int(pid), signal.SIGKILL)

if __name__ == "__main__":
    program, base = sys.argv[1:]
    for address in ("127.0.0.1:1", "nowhere", "[::1]:70000"):
        try:
            open_function(program, address, interpreter=base)
        except paw.PawError as error:
            print(type(error).__name__, error)
    fn = open_function(program, interpreter=base, num_workers=1)
    with closing(fn.runner):
        outputs = fn.map((f"the disk {i}" for i in range(1500)), max_tokens=2)
        next(outputs)
        kill_worker()
        print(len(list(outputs)))
"""


def test_ray_says_nothing_of_its_own_and_a_cluster_that_is_not_there_is_one_sentence(
    home: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), str(home / "a.paw"), str(home / "base")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    refused, *others, last = done.stdout.splitlines()
    assert refused == "DaemonError no Ray at 127.0.0.1:1: Connection refused"
    assert [line.split(":")[0] for line in others] == [
        "OptionError 'nowhere' is no address of Ray",
        "OptionError '[",
    ]
    assert last == "1499"


def test_who_listens_and_is_no_ray_is_told_at_once(home: Path) -> None:
    """In a process of its own: this one is connected."""
    code = (
        "import socket, sys, time, paw_mlx as paw\n"
        "from paw_mlx.rows.ray import open_function\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    begin = time.monotonic()\n"
        "    try: open_function(sys.argv[1], f'127.0.0.1:{server.getsockname()[1]}')\n"
        "    except paw.DaemonError as error: print(error, time.monotonic() - begin < 15)\n"
    )
    words = [sys.executable, "-c", code, str(home / "a.paw")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith(": timed out True\n")
    assert done.stderr == ""


def test_a_process_that_is_connected_names_no_address(cluster: Any, home: Path) -> None:
    with pytest.raises(paw.OptionError, match="connected to Ray already"):
        open_function(home / "a.paw", "127.0.0.1:6379", interpreter=str(home / "base"))
    assert ray.is_initialized()
