"""The daemon as a shell sees it: the same as without, sooner; and how it begins and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tiny
from daemons import LABELS, Place
from shell import SCRIPT, Done, inside

import paw_mlx as paw
from paw_mlx import formats
from paw_mlx.client import places
from paw_mlx.serving.daemon import activation

TEXT = "the disk is full"
ROWS = [f"{word} {number}" for number in range(20) for word in ("disk", "server", "picnic")]


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Place]:
    """A daemon for the tests that leave it as it is."""
    with place.daemon():
        yield place


@pytest.fixture
def near(running: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The same for calls of this process."""
    monkeypatch.setenv("PAW_MLX_HOME", running.environment["PAW_MLX_HOME"])
    return running


def told(done: Done) -> tuple[Any, ...]:
    """Return what a command did, without times, and steps, which depend on what ran before.

    Its numbers stand apart: on the CPU their last bits vary.
    """
    text = f"{done.stdout.decode()}\0{done.stderr}"
    text = re.sub(r'"(\w+_s|seconds|num_steps)": [\d.e+-]+', r'"\1": _', text)
    text = re.sub(r"[\d.]+ (s|rows/s|lines/s)\b", r"_ \1", text)
    number = r"\d+\.\d+(?:e-\d+)?"
    found = [float(match) for match in re.findall(number, text)]
    return done.returncode, re.sub(number, "#", text), pytest.approx(found, abs=1e-4)


SAME = {
    "a text": ("run", "one", TEXT),
    "a path": ("run", "FOLDER/one.paw", TEXT),
    "json": ("run", "one", TEXT, "--json", "--max-tokens", 8),
    "cut": ("run", "one", TEXT, "--max-tokens=3"),
    "stream": ("run", "one", TEXT, "--stream"),
    "input like an option": ("run", "one", "--", "--json"),
    "labels of its own": ("run", "labels", TEXT, "--json"),
    "labels": ("run", "one", TEXT, "--labels", ",".join(LABELS), "--json"),
    "abstained": ("run", "labels", TEXT, "--threshold", 1),
    "otherwise": ("run", "labels", TEXT, "--threshold", 1, "--otherwise", "nobody knows"),
    "too long": ("run", "one", "disk " * 300),
    "too long, cut": ("run", "one", "disk " * 300, "--overflow", "tail", "--max-tokens", 4),
    "drawn": ("run", "one", TEXT, "--temperature", 1, "--seed", 7),
    "no such program": ("run", "nobody", TEXT),
    "a wrong option": ("run", "one", TEXT, "--max-tokens", 0),
    "no option": ("run", "one", TEXT, "--max-tokns", 3),
    "another base": ("run", "one", TEXT, "--interpreter", "FOLDER/none"),
    "help": ("run", "--help"),
    "map": ("map", "one", "FOLDER/rows.txt", "--max-tokens", 4),
    "map of labels": ("map", "labels", "FOLDER/rows.jsonl", "--json"),
    "filter": ("filter", "labels", "FOLDER/rows.txt", "--keep", "disk"),
    "test": ("test", "labels", "FOLDER/cases.jsonl"),
    "rank": ("rank", "labels", "FOLDER/rows.txt"),
    "calibrate": (
        "calibrate",
        "one",
        "FOLDER/cases.jsonl",
        "--labels",
        ",".join(LABELS),
        "-o",
        "FOLDER/new.paw",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", SAME.values(), ids=SAME)
def test_a_command_says_the_same_with_and_without_it(
    running: Place, words: tuple[Any], monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    folder = running.folder
    (folder / "rows.txt").write_text("".join(f"{row}\n" for row in ROWS))
    rows = [json.dumps({"input": row, "n": n}) for n, row in enumerate(ROWS)] + ['{"input": 3}']
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    cases = [json.dumps({"input": row, "output": LABELS[n % 3]}) for n, row in enumerate(ROWS)]
    (folder / "cases.jsonl").write_text("\n".join(cases) + "\n")
    command, *asked = [str(word).replace("FOLDER", str(folder)) for word in words]
    if not {"--interpreter", "--help"} & {*asked}:
        asked = ["--interpreter", str(running.base), *asked]
    for name in ("PAW_MLX_HOME", "PAW_OFFLINE"):
        monkeypatch.setenv(name, running.environment[name])
    by_daemon = told(running.paw(command, *asked))
    here = told(inside(monkeypatch, capfdbinary)(command, "--local", *asked))
    assert by_daemon[:2] == here[:2]
    assert by_daemon[2].expected == here[2]


@pytest.mark.parametrize("data", [b"disk\n", b"", b"\xff", "\ufeffdisk é\r\n".encode()])
def test_standard_input_is_read_the_same(running: Place, data: bytes) -> None:
    words = ["one", "-"] if data.startswith(b"disk") else ["one"]
    found = [running.call("run", *words, *more, stdin=data) for more in ([], ["--local"])]
    assert found[0] == found[1]


def test_a_warm_run_imports_neither_click_nor_numpy_nor_mlx(running: Place) -> None:
    code = (
        "import sys; from paw_mlx.__main__ import main\n"
        "try:\n  main()\nexcept SystemExit as end:\n"
        "  print({n.split('.')[0] for n in sys.modules} & {'click', 'numpy', 'mlx'}, end.code)"
    )
    words = ["run", "labels", TEXT, "--interpreter", str(running.base)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=running.environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "set() 0", done.stderr


def test_it_can_be_left_out(running: Place) -> None:
    before = running.status()["num_calls"]
    off = {"PAW_MLX_DAEMON": "off"}
    expected = running.call("run", "one", TEXT).stdout
    assert running.call("run", "one", TEXT, env=off).stdout == expected
    assert running.call("run", "one", TEXT, "--local").stdout == expected
    assert running.status()["num_calls"] == before + 1
    done = running.call("run", "one", TEXT, env={"PAW_MLX_DAEMON": "perhaps"})
    assert (done.returncode, "on or off" in done.stderr) == (1, True)


def test_a_new_version_of_a_program_is_used_at_once(running: Place) -> None:
    said = []
    for seed in (11, 12):
        path = running.folder / "changing.paw"
        profile = tiny.profile("llama")
        formats.save(tiny.program("llama", seed), path, dtype="f32", profile=profile)
        running.paw("pull", path, "--as", "changing")
        for reference in ("changing", path):
            said.append(running.call("run", reference, TEXT).stdout)
    assert said[0] == said[1] != said[2] == said[3]


def test_python_has_the_same_functions(near: Place) -> None:
    base = str(near.base)
    here = paw.function("one", interpreter=base)
    there = paw.connect().function("one", interpreter=base)
    assert [*there.map(ROWS, max_tokens=6)] == [*here.map(ROWS, max_tokens=6)]
    assert "".join(there.stream(TEXT, max_tokens=6)).strip() == here(TEXT, max_tokens=6)
    result, expected = there.run(TEXT, max_tokens=6), here.run(TEXT, max_tokens=6)
    assert (result.text, result.output_tokens) == (expected.text, expected.output_tokens)
    assert there.runner.identity == here.runner.identity
    sure, expected_sure = (
        paw.Function(fn.runner, fn.program.typed(paw.Labels(LABELS))).decide(TEXT)
        for fn in (there, here)
    )
    assert sure.label == expected_sure.label
    assert [*sure.probabilities.values()] == pytest.approx([*expected_sure.probabilities.values()])
    with pytest.raises(paw.InputTooLong) as caught:
        there("disk " * 300)
    with pytest.raises(paw.InputTooLong) as expected_error:
        here("disk " * 300)
    assert caught.value.record() == expected_error.value.record()
    there.runner.close()


def test_a_program_in_memory_needs_a_base_that_files_know(near: Place) -> None:
    with pytest.raises(paw.OptionError, match="is not known"):
        paw.connect().function(tiny.program("llama", 5), interpreter=str(near.base))


def test_two_hundred_clients_at_once_get_right_answers(near: Place) -> None:
    here = paw.function("one", interpreter=str(near.base))
    expected = {row: here(row, max_tokens=4) for row in ROWS}

    def ask(number: int) -> bool:
        fn = paw.connect().function("one", interpreter=str(near.base))
        try:
            return fn(ROWS[number % 60], max_tokens=4) == expected[ROWS[number % 60]]
        finally:
            fn.runner.close()

    with ThreadPoolExecutor(200) as pool:
        assert all(pool.map(ask, range(200)))


def test_a_base_that_nobody_calls_leaves_memory_and_comes_back(apart: Place) -> None:
    with apart.daemon("--idle", 1) as process:
        expected = apart.call("run", "one", TEXT).stdout
        assert apart.status()["active_bytes"] > 100_000
        deadline = time.monotonic() + 20
        while apart.status()["bases"][0]["loaded"] and time.monotonic() < deadline:
            time.sleep(0.2)
        assert apart.status()["active_bytes"] < 10_000
        assert apart.call("run", "one", TEXT).stdout == expected
        assert process.poll() is None


@pytest.mark.slow
def test_of_many_that_are_started_one_is_there(apart: Place) -> None:
    starting = [
        subprocess.Popen(
            [*SCRIPT, "daemon", "start"],
            env=apart.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    said = [b"".join(process.communicate()).decode() for process in starting]
    try:
        pid = apart.status()["pid"]
        assert {re.search(r"process (\d+)", one)[1] for one in said} == {str(pid)}
        assert all("started" in one or "runs already" in one for one in said)
    finally:
        stopped = apart.paw("daemon", "stop")
    assert stopped.stdout == b"stopped\n"
    assert apart.paw("daemon", "status").returncode == 1
    assert apart.paw("daemon", "stop").stdout == b"no daemon runs\n"


@pytest.mark.slow
def test_a_socket_that_nobody_listens_at_is_in_nobodys_way(apart: Place) -> None:
    with apart.daemon():
        apart.kill()
    path = Path(apart.environment["PAW_MLX_HOME"])
    assert apart.call("run", "one", TEXT).returncode == 0
    with apart.daemon():
        found = apart.status()
        assert found["running"]
        assert path.exists()


def test_only_this_user_may_call(running: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAW_MLX_HOME", running.environment["PAW_MLX_HOME"])
    path = places.socket_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(os.fsencode(path)) < 104


def start_map(place: Place) -> subprocess.Popen[bytes]:
    """Start a `map` of many rows, and return once the daemon computes some of them."""
    rows = place.folder / "many.txt"
    rows.write_text("".join(f"{number} {row}\n" for number, row in enumerate(ROWS * 8)))
    command = [*SCRIPT, "map", "one", str(rows), "--interpreter", str(place.base)]
    mapping = subprocess.Popen(
        command, env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while mapping.poll() is None and not place.status()["num_running"]:
        time.sleep(0.01)
    assert mapping.poll() is None, mapping.communicate()
    return mapping


@pytest.mark.slow
def test_stopping_it_lets_calls_end_and_others_go_on_here(apart: Place) -> None:
    with apart.daemon() as process, start_map(apart) as mapping:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        stdout, stderr = mapping.communicate(timeout=60)
    assert mapping.returncode == 0, stderr
    expected = apart.call("map", "one", apart.folder / "many.txt", "--local").stdout
    assert stdout == expected


def test_an_interrupted_client_cancels_its_calls(running: Place) -> None:
    with start_map(running) as mapping:
        mapping.send_signal(signal.SIGINT)
        mapping.communicate(timeout=30)
        assert mapping.returncode == 130
    deadline = time.monotonic() + 10
    while running.status()["num_running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running.status()["num_running"] == 0


def test_an_older_one_is_asked_to_leave(apart: Place) -> None:
    code = (
        "import sys, paw_mlx.version as v; v.VERSION = '0.0.9'\n"
        "from paw_mlx.__main__ import main; sys.argv = ['paw-mlx', 'daemon', 'run']; main()"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=apart.environment) as old:
        path = None
        while path is None or not path.exists():
            time.sleep(0.05)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PAW_MLX_HOME", apart.environment["PAW_MLX_HOME"])
                path = places.socket_path()
        assert apart.call("run", "one", TEXT).returncode == 0
        assert old.wait(30) == 0


def test_its_log_holds_nobodys_inputs(running: Place) -> None:
    secret = "the disk of Jane Doe is full"
    running.call("run", "one", secret)
    running.call("run", "one", f"{secret} " * 100)
    log = running.paw("daemon", "logs", "-n", 100).stdout.decode()
    assert "Jane" not in log
    calls = [line for line in map(json.loads, log.splitlines()) if line["event"] == "call"]
    assert "InputTooLong" in {line["outcome"] for line in calls}


def test_what_systemd_hands_over_is_listened_at(apart: Place) -> None:
    path = str(apart.folder / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        script = 'exec 3<&"$1"; shift; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
        words = ["bash", "-c", script, "-", str(listener.fileno()), *SCRIPT, "daemon", "run"]
        with subprocess.Popen(
            words, env=apart.environment, pass_fds=[listener.fileno()]
        ) as process:
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(path)
                from paw_mlx.client.wire import Wire

                wire = Wire(caller)
                wire.send({"op": "hello", "protocol": 1, "version": "0"})
                assert wire.receive()["op"] == "hello"
                wire.send({"op": "stop", "id": 1})
                assert wire.receive()["op"] == "ok"
            assert process.wait(30) == 0
    assert Path(path).exists()  # it is the system's, and stays


def test_units_hold_paths_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAW_MLX_HOME", str(tmp_path / 'a "b" $c %d'))
    made = activation.units(["/x y/python", "-m", "paw_mlx"])
    service = made["paw-mlx.daemon.service"].decode()
    assert 'ExecStart="/x y/python" "-m" "paw_mlx"' in service
    assert r"a \"b\" $$c %%d" in service
    assert "%%d/run/daemon.sock" in made["paw-mlx.daemon.socket"].decode() or (
        "/tmp/paw-mlx-" in made["paw-mlx.daemon.socket"].decode()
    )


def test_what_the_system_refuses_leaves_nothing(apart: Place, tmp_path: Path) -> None:
    tool = tmp_path / "systemctl"
    tool.write_text(
        '#!/bin/sh\necho "$@" >>"$0.log"\ncase "$*" in *enable*) echo no >&2; exit 1;; esac\n'
    )
    tool.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    if sys.platform == "darwin":
        pytest.skip("launchd's own")
    done = apart.paw("daemon", "install", env=env)
    assert (done.returncode, "failed: no" in done.stderr) == (1, True)
    assert not [*(tmp_path / "config").rglob("*.service")]
    tool.write_text("#!/bin/sh\n")
    assert apart.paw("daemon", "install", env=env).returncode == 0
    names = {path.name for path in (tmp_path / "config").rglob("paw-mlx*")}
    assert names == {"paw-mlx.daemon.service", "paw-mlx.daemon.socket"}
    assert apart.paw("daemon", "uninstall", env=env).returncode == 0
    assert not [*(tmp_path / "config").rglob("paw-mlx*")]
    again = apart.paw("daemon", "uninstall", env=env)
    assert (again.returncode, again.stdout, again.stderr) == (0, b"", "nothing was installed\n")


def test_without_one_python_hears_of_it() -> None:
    with pytest.raises(paw.DaemonError, match="no daemon runs"):
        paw.connect()
