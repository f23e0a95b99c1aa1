"""Studies on tiny bases, and what they wrote down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paw_mlx.benchmarks.accuracy import study as study_module
from paw_mlx.benchmarks.accuracy.answers import Answers
from paw_mlx.benchmarks.accuracy.methods import Lab, StudyOptions
from paw_mlx.benchmarks.accuracy.study import Study


def ask(
    study: Study, base: Path, path: Path, whole: bool = False, **options: Any
) -> list[dict[str, Any]]:
    """A study on a tiny base, from a file of answers: its rows, without seconds unless `whole`."""
    with (
        Lab(StudyOptions(str(base), **{"steps": 3, **options})) as lab,
        Answers(path, study_module.settings(study, lab)) as answers,
    ):
        rows = study_module.run(study, lab, answers)
    if whole:
        return rows
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def records(path: Path) -> list[dict[str, Any]]:
    """The answers in a file, its settings and programs left out."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if "method" in line]
