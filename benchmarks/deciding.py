"""How far the promise of a threshold holds, on cases that it was not chosen on.

    python -m paw_mlx.benchmarks.deciding [PROGRAM CASES] [--json]

The function runs on its cases once. Then, 20 times, a random half of them calibrates (temperature
and threshold, as `paw-mlx calibrate` does) and the other half says what came of it: the expected
calibration error before and after, the share of calls that are decided, and how many of those are
wrong. Without arguments the examples' held-out rows are taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from paw_mlx import formats, hub
from paw_mlx.benchmarks.batch import EXAMPLES
from paw_mlx.calibration import Rows, calibrate, fit_and_choose
from paw_mlx.cases import Case, read_cases
from paw_mlx.evaluation import calibration_error, judge, reliability
from paw_mlx.interpreter import Interpreter
from paw_mlx.output import TEXT, Labels
from paw_mlx.program import Program

SPLITS = 20
PATH = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("program", type=PATH, required=False)
@click.argument("cases", type=PATH, required=False)
@click.option("--max-error", default=0.1, show_default=True)
@click.option("--confidence", default=0.9, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(
    program: Path | None, cases: Path | None, max_error: float, confidence: float, as_json: bool
) -> None:
    """Calibrate on one half of the cases, look at the other; 20 times."""
    report = {}
    with Interpreter.load(str(hub.resolve_base("smollm2-135m"))) as interpreter:
        for name, typed, rows in _find_subjects(program, cases):
            judged = calibrate(interpreter.function(typed), rows).report
            free = judge(interpreter.function(replace(typed, output=TEXT)), rows)
            report[name] = {"cases": len(rows), "accuracy_free": free.accuracy}
            report[name] |= {"accuracy_typed": judged.accuracy}
            report[name] |= measure_splits(Rows.of(judged), max_error, confidence)
    if as_json:
        click.echo(json.dumps(report))
        return
    for name, found in report.items():
        click.echo(name)
        for key, value in found.items():
            click.echo(f"  {key:<22}{f'{value:.3g}' if isinstance(value, float) else value}")


def _find_subjects(
    program: Path | None, cases: Path | None
) -> Iterator[tuple[str, Program, list[Case]]]:
    """Give programs with labels, and their cases; labels are what the cases have as outputs."""
    folders = [EXAMPLES / "log-triage", EXAMPLES / "email-triage"]
    pairs = [(folder / "program.paw", folder / "test.jsonl") for folder in folders]
    if program and cases:
        pairs = [(program, cases)]
    for path, file in pairs:
        rows, loaded = read_cases(file), formats.load(path)
        if not isinstance(loaded.output, Labels):
            labels = tuple(sorted({case.output.strip() for case in rows}))
            loaded = replace(loaded, output=Labels(labels))
        yield path.parent.name, loaded, rows


def measure_splits(rows: Rows, max_error: float, confidence: float) -> dict[str, Any]:
    """Calibrate on random halves; return what the others say, in the mean over SPLITS."""
    before, after, coverages, errors = [], [], list[float](), list[float]()
    for seed in range(SPLITS):
        inputs = np.unique(rows.inputs)
        half = np.random.default_rng(seed).permutation(inputs)[: len(inputs) // 2]
        chosen = np.isin(rows.inputs, half)
        cases, others = rows.where(chosen), rows.where(~chosen)
        fit, found = fit_and_choose(cases, max_error, confidence)
        temperature = fit.temperature
        before.append(calibration_error(reliability(*others.calls(1.0))))
        after.append(calibration_error(reliability(*others.calls(temperature))))
        if found.value is None:
            continue
        calls = zip(*others.calls(temperature), strict=True)
        decided = [is_right for probability, is_right in calls if probability >= found.value]
        coverages.append(len(decided) / len(others))
        errors.append(1 - sum(decided) / len(decided) if decided else 0.0)
    return {
        "max_error": max_error,
        "confidence": confidence,
        "ece_before": float(np.mean(before)),
        "ece_after": float(np.mean(after)),
        "splits": SPLITS,
        "splits_with_threshold": len(errors),
        "coverage": float(np.mean(coverages)) if coverages else 0.0,
        "error_of_decided": float(np.mean(errors)) if errors else 0.0,
        "splits_above_bound": sum(error > max_error for error in errors),
    }


if __name__ == "__main__":
    main()
