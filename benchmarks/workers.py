"""Workers against this process: what several processes of one machine are worth.

    python -m paw_mlx.benchmarks.workers [--json] [--num 200] [--most 2]

Every round maps the same rows, all different, in this process and by 1, 2, … workers, in turn on
the same machine; each ratio is the median of its rounds' own. A BLAS takes all cores here, and in a
worker its part of them. All are warm: the seconds that workers take to load stand apart.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from statistics import median

import click

from paw_mlx import formats, hub
from paw_mlx.benchmarks.batch import EXAMPLES
from paw_mlx.benchmarks.speed.subject import inputs
from paw_mlx.functions import Function
from paw_mlx.interpreter import Interpreter
from paw_mlx.machine import card
from paw_mlx.serving.workers import open_workers

ROUNDS = 5
_REST_S = 1.0  # a BLAS's threads spin for a while after their work, in the others' way


@click.command()
@click.option("--interpreter", "base", default="smollm2-135m", show_default=True, metavar="REF")
@click.option("--program", type=click.Path(path_type=Path), default=EXAMPLES / "log-triage")
@click.option("--num", default=200, show_default=True, help="Rows, all different.")
@click.option("--most", default=2, show_default=True, help="Workers at most.")
@click.option("--rounds", default=ROUNDS, show_default=True, help="How often each is timed.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(base: str, program: Path, num: int, most: int, rounds: int, as_json: bool) -> None:
    """Time `map` here and by workers; print rows a second, and ratios."""
    path, texts = program / "program.paw", list(islice(inputs(), num))
    report: dict[str, object] = {"num": num, "rounds": rounds}
    with ExitStack() as opened:
        interpreter = opened.enter_context(Interpreter.load(str(hub.resolve_base(base))))
        ways = {"here": interpreter.function(formats.load(path))}
        for number in range(1, most + 1):
            begin = time.perf_counter()
            fn = open_workers(path, number, interpreter=base)
            opened.enter_context(closing(fn.runner))
            report[f"load_{number}_s"] = time.perf_counter() - begin
            ways[f"workers_{number}"] = fn
        report |= measure(ways, texts, rounds)
        report |= card() | {"device": interpreter.device}
    if as_json:
        click.echo(json.dumps(report))
        return
    for key, value in report.items():
        click.echo(f"{key:<22}{f'{value:.3g}' if isinstance(value, float) else value}")


def measure(ways: dict[str, Function], texts: Sequence[str], rounds: int) -> dict[str, object]:
    """Return rows a second of all ways, and how often as many each does as the first."""
    said = [list(fn.map(texts)) for fn in ways.values()]  # which warms them, too
    timed = [[_seconds(fn, texts) for fn in ways.values()] for _ in range(rounds)]
    report: dict[str, object] = {"identical": all(one == said[0] for one in said)}
    for place, name in enumerate(ways):
        report[f"{name}_rows_s"] = len(texts) / median(took[place] for took in timed)
    for place, name in list(enumerate(ways))[1:]:
        ratios = sorted(took[0] / took[place] for took in timed)
        report[f"{name}_ratio"] = median(ratios)
        report[f"{name}_ratios"] = f"{ratios[0]:.2f} … {ratios[-1]:.2f}"
    return report


def _seconds(fn: Function, texts: Sequence[str]) -> float:
    time.sleep(_REST_S)
    begin = time.perf_counter()
    for _ in fn.map(texts):
        pass
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
