"""Compile by training (arXiv 2609.04199): a compiled program learns from pairs of a teacher.

The pairs and the training lie in the cache, by what the function, its teacher and the seed are: a
compile that was killed goes on there, and one that is called again has its pairs already.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import settings
from ..cases import Case, read_cases
from ..errors import CompileError, InputTooLong, OptionError
from ..evaluation import Report
from ..interpreter.engine.scoring import encode_cases
from ..interpreter.models.load import Base, load_base
from ..output import Labels, Output
from ..program import Program
from ..progress import Progress, quiet
from ..training.loop import TrainingStep
from ..training.program import divide, fit_adapter, judge_on, split
from ..training.recipe import Recipe
from ..training.replay import case_key
from . import writing
from .function import Function
from .pairs import make_pairs
from .report import PairsReport
from .teacher import Teacher

# The paper's recipe; the rank and alpha are those of the adapter that is trained on.
STEPS, LEARNING_RATE, BATCH, CHECKS = 100, 2e-4, 48, 10
MIN_PAIRS = 20
_PAIRS_SHARE = 0.5  # of the time, that pairs may take


@dataclass(frozen=True)
class Lesson:
    """Who teaches a program, by how many pairs, kept where, and in how many seconds at most."""

    teacher: Teacher | Path
    num_pairs: int | None = None
    pairs_file: Path | None = None
    seed: int = 0
    seconds: float = math.inf


@dataclass(frozen=True)
class Taught:
    """A program that was trained, or the one before where that is better; what came of it.

    `before` and `after` judge both by the same cases, which neither has seen. `folder` holds what
    a training goes on from.
    """

    program: Program
    pairs: PairsReport
    before: Report
    after: Report
    seconds: float
    folder: Path

    @property
    def is_better(self) -> bool:
        """Whether the trained program is the one that is kept."""
        return self.after.num_correct >= self.before.num_correct

    def forget(self) -> None:
        """Remove what the training would go on from; its pairs stay."""
        shutil.rmtree(self.folder, ignore_errors=True)


def train_by_teacher(
    program: Program,
    path: Path,
    lesson: Lesson,
    dtype: str,
    cases: Sequence[Case] = (),
    *,
    progress: Progress = quiet,
    on_pair: writing.Report = lambda so_far: None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
) -> Taught:
    """Train a compiled program on for the base at `path`, by the pairs that a teacher writes.

    It is judged by `cases`, or else by pairs held out. CompileError if there are too few pairs,
    OptionError if all have one output; errors as of `make_pairs` and `fit_adapter`.
    """
    start = time.perf_counter()
    function = Function(program.spec, _plain(program.output))
    cache = _folder(function, lesson)
    file, folder = lesson.pairs_file or cache / "pairs.jsonl", cache / "training"
    progress("writing pairs")
    pairs = make_pairs(
        function,
        lesson.teacher,
        file,
        lesson.num_pairs,
        seed=lesson.seed,
        report=on_pair,
        deadline_s=_PAIRS_SHARE * lesson.seconds,
    )
    if pairs.kept < MIN_PAIRS:
        raise CompileError(
            f"{pairs.kept} pairs were kept, and training takes {MIN_PAIRS} at least; dropped: "
            f"{json.dumps(dict(pairs.dropped.most_common(5)))[1:-1] or 'none'}",
            hint=f"They are in {file}. Another --teacher may do better.",
        )
    progress("loading the interpreter")
    base = load_base(path, trainable=True)
    rows = _fitting(base, program, read_cases(file), pairs)
    left_s = lesson.seconds - (time.perf_counter() - start)
    trained, held_out = _fit(base, program, rows, lesson.seed, dtype, folder, left_s, on_step)
    progress("judging it")
    judged = cases or held_out
    before, after = (judge_on(base, one, judged, among=judged) for one in (program, trained))
    record = {**trained.meta["training"], "pairs": pairs.record()}
    trained = replace(trained, meta={**trained.meta, "training": record})
    taught = Taught(trained, pairs, before, after, time.perf_counter() - start, folder)
    return taught if taught.is_better else replace(taught, program=program)


def _plain(output: Output) -> Output:
    """Return labels as they are named: what was measured of the program before is its own."""
    return Labels(output.labels) if isinstance(output, Labels) else output


def _folder(function: Function, lesson: Lesson) -> Path:
    teacher = lesson.teacher
    name = str(teacher.resolve()) if isinstance(teacher, Path) else teacher.name
    terms = json.dumps([function.record(), name, lesson.seed], sort_keys=True)
    key = hashlib.sha256(terms.encode()).hexdigest()[:32]
    return settings.cache_dir() / "teaching" / key


def _fitting(base: Base, program: Program, rows: Sequence[Case], pairs: PairsReport) -> list[Case]:
    """Return the pairs that fit the window behind the program's prompt."""
    kept = []
    for row in rows:
        try:
            encode_cases(base, program.template, [row])
            kept.append(row)
        except InputTooLong:
            pairs.dropped["too long for the window"] += 1
    return kept


def _fit(
    base: Base,
    program: Program,
    rows: Sequence[Case],
    seed: int,
    dtype: str,
    folder: Path,
    left_s: float,
    on_step: Callable[[TrainingStep], None],
) -> tuple[Program, list[Case]]:
    """Train the program's adapter on; return the new program, and the pairs held out."""
    adapter = program.adapter
    if adapter is None or len(adapter.ranks) != 1:
        raise OptionError("training goes on from an adapter of one rank, and there is none")
    (rank,), alpha = adapter.ranks, next(iter(adapter.sites.values())).alpha
    recipe = Recipe(
        rank, alpha, STEPS, LEARNING_RATE, BATCH, shots=0, checks=CHECKS, patience=CHECKS, seed=seed
    )
    recipe = replace(recipe, batch_size=min(BATCH, len(split(rows, recipe)[0])))
    trained, _, held_out = divide(rows, recipe, base.tokenizer)
    fitted = fit_adapter(
        base,
        program.template,
        trained,
        held_out,
        recipe,
        on_step,
        start_from=adapter,
        output=program.output,
        dtype=dtype,
        folder=folder,
        deadline_s=max(1.0, left_s) if math.isfinite(left_s) else None,
    )
    record = fitted.record(len(trained), len(held_out), map(case_key, rows))
    made = fitted.retrained(program, record | {"compiled_as": program.id})
    meta = {**made.meta, "compiler_kind": "finetune_lora"}
    return replace(made, output=_plain(program.output), meta=meta), held_out
