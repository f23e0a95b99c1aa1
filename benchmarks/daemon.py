"""The daemon against this process: what a call through it costs, and how many it answers at once.

    python -m paw_mlx.benchmarks.daemon [--json] [--num 320]

Every figure compares two ways of doing the same on the same machine in the same run, in turn. A
warm `paw-mlx run` is a whole process, from its start to its end, against the call itself in this
one; a cold one, for which the system starts the daemon, is held against
`paw-mlx run --local`. Clients are threads of this process, a connection each, that call one after
the other.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median

import click

from paw_mlx import formats, hub
from paw_mlx.benchmarks.batch import EXAMPLES
from paw_mlx.benchmarks.speed.subject import inputs
from paw_mlx.client import places
from paw_mlx.client.connection import connect
from paw_mlx.functions import Function
from paw_mlx.interpreter import Interpreter
from paw_mlx.mac import launchd
from paw_mlx.machine import card
from paw_mlx.serving.daemon import lifetime

CLIENTS = 32
ROUNDS = 20
COLD_ROUNDS = 3
_IDLE_S = 600.0
_REST_S = 0.4  # a BLAS's threads spin for a while after their work, in the others' way


@click.command()
@click.option("--interpreter", "base", default="smollm2-135m", show_default=True, metavar="REF")
@click.option("--program", type=click.Path(path_type=Path), default=EXAMPLES / "log-triage")
@click.option("--num", default=320, show_default=True, help="Inputs.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(base: str, program: Path, num: int, as_json: bool) -> None:
    """Measure calls through a daemon of its own against calls here; print seconds and ratios."""
    path, texts = program / "program.paw", list(islice(inputs(), num))
    words = ["run", str(path), texts[0], "--interpreter", base, "--offline"]
    try:
        report: dict[str, object] = {"num": num, "clients": CLIENTS, **measure_cold(words)}
        lifetime.start(_IDLE_S)
        with Interpreter.load(str(hub.resolve_base(base))) as interpreter:
            fn = interpreter.function(formats.load(path))
            report |= measure_warm(fn, words, texts[0])
            report |= measure_clients(fn, path, base, texts)
            report |= card() | {"device": interpreter.device}
    finally:
        lifetime.stop()
    if as_json:
        click.echo(json.dumps(report))
        return
    for key, value in report.items():
        click.echo(f"{key:<22}{f'{value:.3g}' if isinstance(value, float) else value}")


def measure_cold(words: Sequence[str]) -> dict[str, object]:
    """Time a call that the system starts a daemon for, against the call without one."""
    locals_, cold = list[float](), list[float]()
    for _ in range(COLD_ROUNDS):
        locals_.append(_seconds(lambda: _run(*words, "--local")))
        with activated() as listener:
            begin = time.perf_counter()
            _begin(listener)
            _run(*words)
            cold.append(time.perf_counter() - begin)
    local_s, cold_s = median(locals_), median(cold)
    return {"local_run_s": local_s, "cold_run_s": cold_s, "cold_ratio": cold_s / local_s}


@contextmanager
def activated() -> Iterator[socket.socket]:
    """Listen in a daemon's place as launchd and systemd do; it is stopped at the end."""
    path = places.make_folder() / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        try:
            yield listener
        finally:
            lifetime.stop()
            path.unlink()


def _begin(listener: socket.socket) -> None:
    """Start a daemon on a socket that is listened at, as systemd does."""
    script = 'exec 3<&"$1"; shift; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
    number, words = listener.fileno(), launchd.command("daemon", "run")
    subprocess.Popen(["bash", "-c", script, "-", str(number), *words], pass_fds=[number])


def measure_warm(fn: Function, words: Sequence[str], text: str) -> dict[str, object]:
    """Time `paw-mlx run` as a whole process against the call in this one, and against Python."""
    ways: dict[str, Callable[[], object]] = {
        "call_s": lambda: fn(text),
        "run_s": lambda: _run(*words),
        "python_s": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    }
    rounds = [[_rested_seconds(way) for way in ways.values()] for _ in range(ROUNDS + 2)][2:]
    took = dict(zip(ways, map(median, zip(*rounds, strict=True)), strict=True))
    return {**took, "run_overhead_ms": 1000 * (took["run_s"] - took["call_s"])}


def measure_clients(fn: Function, path: Path, base: str, texts: Sequence[str]) -> dict[str, object]:
    """Count calls per second of clients at once, against `map` here."""
    daemon = connect()
    theirs = [daemon.function(path, interpreter=base) for _ in range(CLIENTS)]

    def ask(number: int) -> list[str]:
        return [theirs[number](text) for text in texts[number::CLIENTS]]

    def ask_all(pool: ThreadPoolExecutor) -> list[str]:
        return [one for found in pool.map(ask, range(CLIENTS)) for one in found]

    said, mapped, clients = list[list[str]](), list[float](), list[float]()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(COLD_ROUNDS):
            mapped.append(_seconds(lambda: said.append(list(fn.map(texts)))))
            clients.append(_seconds(lambda: said.append(ask_all(pool))))
    for one in theirs:
        one.runner.close()
    return {
        "map_calls_s": len(texts) / median(mapped),
        "clients_calls_s": len(texts) / median(clients),
        "clients_ratio": median(mapped) / median(clients),
        "identical": all(sorted(one) == sorted(said[0]) for one in said),
    }


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "paw_mlx", *words], check=True, stdout=subprocess.DEVNULL)


def _rested_seconds(work: Callable[[], object]) -> float:
    time.sleep(_REST_S)
    return _seconds(work)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
