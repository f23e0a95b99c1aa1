"""A Ray cluster against this process: what it costs, what two workers are worth, what drives it.

    OMP_NUM_THREADS=1 python -m paw_mlx.benchmarks.ray [--json] [--num 96]

Every round maps the same rows, all different, in this process and by 1 and 2 workers of a Ray of
this machine alone, in turn; each ratio is the median of its rounds' own. With one BLAS thread for
all, a worker has what this process has. Then a csv goes through workers that compute nothing: what
the driver reads, sends, takes and writes in a second is what all nodes together cannot exceed.
"""

from __future__ import annotations

import json
import pickle
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import click

from paw_mlx import formats, hub
from paw_mlx.benchmarks.batch import EXAMPLES
from paw_mlx.benchmarks.speed.subject import inputs
from paw_mlx.benchmarks.workers import ROUNDS, measure
from paw_mlx.functions import Function
from paw_mlx.interpreter import Interpreter
from paw_mlx.machine import card
from paw_mlx.rows.opening import open_source
from paw_mlx.rows.part import Part
from paw_mlx.rows.ray.actor import Message, Worker
from paw_mlx.rows.ray.cluster import connect, library
from paw_mlx.rows.ray.places import plan
from paw_mlx.rows.ray.programs import Programs
from paw_mlx.rows.ray.runner import RayRunner, base_of
from paw_mlx.rows.ray.slots import MOST_CALLS
from paw_mlx.rows.run import RowFiles, map_rows
from paw_mlx.runner import Options, Result

DRIVEN_ROWS = 100_000
_NOTHING = Result("wait", "stop", 300, 30, 2, 0.01, 0.01)


class Idle(Worker):
    """A worker that answers at once, and loads nothing."""

    def load(self) -> Message:
        """Say that it holds a base."""
        identity = {"base": "none", "form": "none"}
        return {"identity": identity, "device": "none", "max_in_flight": 512}

    def _program(self, *_: object) -> Any:
        return None

    def _begin(self, *_: object) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(_NOTHING)
        return future


@click.command()
@click.option("--interpreter", "base", default="smollm2-135m", show_default=True, metavar="REF")
@click.option("--program", type=click.Path(path_type=Path), default=EXAMPLES / "log-triage")
@click.option("--num", default=96, show_default=True, help="Rows, all different.")
@click.option("--rounds", default=ROUNDS, show_default=True, help="How often each is timed.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(base: str, program: Path, num: int, rounds: int, as_json: bool) -> None:
    """Time `map` here and by workers of a Ray; print rows a second, ratios and bytes."""
    path, texts = program / "program.paw", list(islice(inputs(), num))
    connect("local")
    report: dict[str, object] = {"num": num, "rounds": rounds}
    try:
        with ExitStack() as opened:
            interpreter = opened.enter_context(Interpreter.load(str(hub.resolve_base(base))))
            ways = {"here": interpreter.function(formats.load(path))}
            for number in (1, 2):
                fn = open_workers(path, number, base)
                opened.enter_context(closing(fn.runner))
                ways[f"ray_{number}"] = fn
            report |= measure(ways, texts, rounds)
            report |= measure_bytes(ways["here"], texts)
        report |= measure_driver(path) | card()
    finally:
        library().shutdown()
    if as_json:
        click.echo(json.dumps(report))
        return
    for key, value in report.items():
        click.echo(f"{key:<22}{f'{value:.3g}' if isinstance(value, float) else value}")


def open_workers(
    path: Path, num_workers: int, base: str, worker: type[Worker] = Worker
) -> Function:
    """Return a function on so many workers, which leave room for others on the node."""
    programs = Programs()
    places = [replace(one, num_cpus=0.1) for one in plan(library().nodes(), num_workers)]
    loaded = programs.load(path)
    return Function(
        RayRunner(places, base_of(base, None, 64, True), programs, worker=worker), loaded
    )


def measure_bytes(fn: Function, texts: Sequence[str]) -> dict[str, object]:
    """Return how many bytes a row's input and its answer take in a message, pickled as Ray does."""
    some = texts[:MOST_CALLS]
    asked = pickle.dumps(list(enumerate(some)))
    told = pickle.dumps([(at, {"record": fn.run(text).record()}) for at, text in enumerate(some)])
    return {"input_bytes": len(asked) / len(some), "answer_bytes": len(told) / len(some)}


def measure_driver(path: Path) -> dict[str, object]:
    """Return how many rows a second this process takes from a csv to another, by idle workers."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.csv"), Path(folder, "out.csv")
        rows = (f"{number},the disk of host {number} is full\n" for number in range(DRIVEN_ROWS))
        source.write_text("id,text\n" + "".join(rows))
        fn = open_workers(path, 2, "none", Idle)
        with closing(fn.runner), open_source([str(source)]) as opened:
            files = RowFiles.open(opened, target)
            begin = time.perf_counter()
            with closing(Part(target, {}, files.writer, resume=False)) as sink:
                for _ in map_rows(fn.runner, fn.program, files, sink, Options()):
                    pass
            return {"driver_rows_s": DRIVEN_ROWS / (time.perf_counter() - begin)}


if __name__ == "__main__":
    main()
