"""Train a program on, and tell by cases that nobody was trained on whether it got better.

The prompt stays as it is, to the byte, and the adapter is gone on from. What the program gets right
is trained on beside what it gets wrong, so that it is not forgotten. It is judged by cases that
neither it nor what comes of it was trained on: by a third of them, held out, where that is enough;
elsewhere five trainings each leave out a fifth and are judged by it (cross-fitting), and what may
be promoted is then trained on everything. `evaluation.promotion` decides.

In its folder a tuning that was killed finds `<part>.paw`, what a finished training made, and
`<part>/`, the checkpoint of one that is not.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import formats
from ..cases import Case, check_outputs, deal
from ..errors import OptionError
from ..evaluation import Gate, Judged, Missed, Report, compare
from ..evaluation.promotion import Verdict, decide, hopeless
from ..interpreter.engine.scoring import encode_cases
from ..interpreter.models.load import Base
from ..program import Program
from ..progress import Progress, quiet
from ..words import counted
from .loop import TrainingStep
from .program import fit_adapter, judge_on
from .recipe import Recipe
from .replay import Rows, case_key, choose_rows, replay

HELD_OUT_FROM = 300  # unseen cases, of which a third is enough to judge by
FOLDS = 5
_CHECKED = 10  # one row of so many is not trained on: the best step is chosen by them
_WHOLE = "all"


@dataclass(frozen=True)
class Tuned:
    """What came of a tuning; `program` is None where nothing that could be promoted was trained.

    `old` and `new` judge the same cases. `num_folds` is 0 where a third was held out, and
    `num_seen` counts cases that the old program was trained on.
    """

    program: Program | None
    verdict: Verdict
    missed: Sequence[Missed]
    old: Report
    new: Report | None
    rows: Rows
    num_folds: int
    num_seen: int
    seconds: float = 0.0

    @property
    def promoted(self) -> bool:
        """Whether the program is to take the place of the old one."""
        return self.verdict.promoted and not self.missed


def tune(
    base: Base,
    program: Program,
    cases: Sequence[Case],
    pairs: Sequence[Case] = (),
    recipe: Recipe | None = None,
    *,
    gate: Gate | None = None,
    anyway: bool = False,
    folder: Path | None = None,
    deadline_s: float | None = None,
    hear: Progress = quiet,
    report: Callable[[TrainingStep], None] = lambda step: None,
) -> Tuned:
    """Train a program on by cases, and by pairs that it is not judged by; judge what comes of it.

    The recipe's rank and alpha give way to the adapter's. Where nothing could be promoted, nothing
    is trained, unless `anyway`. What lies in `folder` is gone on from. All trainings together take
    about `deadline_s` seconds at most. Errors are those of `train`, and OptionError for no cases.
    """
    start = time.perf_counter()
    rows = choose_rows(cases, pairs)
    if not rows.cases:
        why = f": all {len(cases):,} contradict each other" if cases else ""
        raise OptionError(
            f"there are no cases to judge by{why}",
            hint="Keep some with `paw-mlx case add`, or name a file: --cases FILE.",
        )
    everything = [*rows.cases, *rows.pairs]
    check_outputs(everything, program.output)
    encode_cases(base, program.template, everything)  # an error now, not after an hour
    tuning = _Tuning(base, program, rows, recipe or Recipe(), folder, deadline_s, hear, report)
    return replace(tuning.run(gate, anyway), seconds=time.perf_counter() - start)


class _Tuning:
    """A program under tuning: its parts, and what was trained for each."""

    def __init__(
        self,
        base: Base,
        program: Program,
        rows: Rows,
        recipe: Recipe,
        folder: Path | None,
        deadline_s: float | None,
        hear: Progress,
        report: Callable[[TrainingStep], None],
    ) -> None:
        self._base, self._old, self._rows, self._folder = base, program, rows, folder
        self._hear, self._report = hear, report
        self._everything = [*rows.cases, *rows.pairs]
        adapter = program.adapter
        if adapter and len(adapter.ranks) == len(adapter.alphas) == 1:
            recipe = replace(recipe, rank=adapter.ranks[0], alpha=adapter.alphas[0])
        self._recipe = recipe
        seen = _seen(program)
        unseen = [case for case in rows.cases if case_key(case) not in seen]
        self._num_folds = FOLDS if len(unseen) < HELD_OUT_FROM else 0
        self._parts = deal(unseen, self._num_folds or 3, recipe.seed)
        self._judging = [case for part in self._parts[: self._num_folds or 1] for case in part]
        self._num_seen = len(rows.cases) - len(unseen)
        self._deadline_s = deadline_s and deadline_s / (self._num_folds + 1)
        self._wrong: set[Case] = set()
        self._made: dict[str, Program] = {}

    def run(self, gate: Gate | None, anyway: bool) -> Tuned:
        """Judge the old program, train, judge what was trained, and decide."""
        self._hear(f"running the program on {counted(len(self._everything), 'row')}")
        judged = self._judge(self._old, self._everything).judged
        answers = dict(zip(self._everything, judged, strict=True))
        self._wrong = {case for case, one in answers.items() if not one.correct}
        old = Report([answers[case] for case in self._judging])
        new, missed = None, list[Missed]()
        verdict = hopeless(len(self._judging), old.num_correct)
        if gate and old.judged:
            gate.check(old)  # an error of the gate's now, not after an hour
        if verdict is None:
            new = self._judge_parts()
            verdict = self._decide(old, new)
            missed = gate.check(new) if gate else []
        program = None
        if anyway or (verdict.promoted and not missed):
            program = self._train_last()
            if verdict.promoted and self._num_folds:
                verdict = self._check_last(program, verdict, old.num_correct)
        rows, folds, num_seen = self._rows, self._num_folds, self._num_seen
        return Tuned(program, verdict, missed, old, new, rows, folds, num_seen)

    def _judge_parts(self) -> Report:
        """Judge every part by what was trained on all the rest."""
        parts, found = self._parts[: self._num_folds or 1], list[Judged]()
        for number, part in enumerate(parts, 1):
            if len(parts) > 1:
                self._hear(f"training {number} of {len(parts) + 1}, to be judged by the rest")
            program = self._train(f"part-{number}", leaving_out=part)
            found += self._judge(program, part).judged
        return Report(found)

    def _decide(self, old: Report, new: Report) -> Verdict:
        found = compare(old, new)
        return decide(
            len(found.pairs),
            found.only_a,
            found.only_b,
            num_old=old.num_correct,
            expected=_accuracy(self._old),
        )

    def _train_last(self) -> Program:
        """Train what may be promoted: on everything, or on what was not held out."""
        if not self._num_folds:
            return self._train("part-1", leaving_out=self._parts[0])
        self._hear("training on everything")
        return self._train(_WHOLE)

    def _check_last(self, program: Program, verdict: Verdict, num_old: int) -> Verdict:
        """Take a promotion back where the last training, which nothing judged, went wrong."""
        num_new = self._judge(program, self._judging).num_correct
        if num_new >= num_old:
            return verdict
        reason = (
            f"trained on all {verdict.num:,} cases, it is right on {num_new:,}, and the old one"
        )
        return replace(verdict, promoted=False, reason=f"{reason} on {num_old:,}")

    def _train(self, part: str, leaving_out: Sequence[Case] = ()) -> Program:
        """Train on all rows but some, unless that was done; go on from a checkpoint."""
        file = self._folder / f"{part}.paw" if self._folder else None
        if part not in self._made and file and file.exists():
            self._made[part] = formats.load(file)
        if part not in self._made:
            apart = set(leaving_out)
            rows = [row for row in self._everything if row not in apart]
            self._made[part] = self._fit(part, rows)
            if self._folder and file:
                formats.save(self._made[part], file, dtype=None, profile=self._base.profile)
                shutil.rmtree(self._folder / part, ignore_errors=True)
        return self._made[part]

    def _fit(self, part: str, rows: Sequence[Case]) -> Program:
        checked, *others = deal(rows, min(_CHECKED, len(rows)), self._recipe.seed)
        drawn = replay([row for other in others for row in other], self._wrong)
        recipe = replace(self._recipe, batch_size=min(self._recipe.batch_size, len(drawn)))
        fitted = fit_adapter(
            self._base,
            self._old.template,
            drawn,
            checked,
            recipe,
            self._report,
            start_from=self._old.adapter,
            output=self._old.output,
            dtype=_dtype(self._old),
            folder=self._folder / part if self._folder else None,
            deadline_s=self._deadline_s,
        )
        seen = _seen(self._old) | set(map(case_key, rows))
        record = fitted.record(len(rows) - len(checked), len(checked), seen)
        return fitted.retrained(self._old, record | {"tuned_from": self._old.id})

    def _judge(self, program: Program, cases: Sequence[Case]) -> Report:
        return judge_on(self._base, program, cases, among=self._everything)


def _record(program: Program) -> Mapping[str, Any]:
    """Return what a program's file says of its training; anybody may have written that."""
    record = program.meta.get("training")
    return record if isinstance(record, Mapping) else {}


def _seen(program: Program) -> set[str]:
    seen = _record(program).get("seen")
    return set(map(str, seen)) if isinstance(seen, list) else set()


def _accuracy(program: Program) -> float | None:
    accuracy = _record(program).get("accuracy_after")
    return accuracy if isinstance(accuracy, float) else None


def _dtype(program: Program) -> str:
    """Return how a tuned adapter is stored: as the old one, if that can be written."""
    dtypes = program.adapter.dtypes if program.adapter else ()
    return dtypes[0] if len(dtypes) == 1 and dtypes[0] in ("q4_0", "f16", "f32") else "f16"
