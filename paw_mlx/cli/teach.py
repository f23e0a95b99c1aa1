"""What `paw-mlx compile` does with --train: a teacher's pairs, and a training by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import OptionError
from .candidates import Trial, hold
from .options import PATH, FiniteRange, add_options, teacher_options
from .pairs import draw_pairs, show_pairs
from .specs import check_writable
from .training_line import training_line
from .voice import StatusLine, say, status

if TYPE_CHECKING:
    from ..compiler.compilation import Compilation
    from ..compiler.pipeline import Compiler
    from ..teaching.compiling import Lesson, Taught


@dataclass
class Training:
    """What was asked of --train, and as `record`, as JSON has it, what came of it.

    `judging` has the cases that the result is judged by, if there are any, and its gate.
    """

    teacher: dict[str, Any]
    num_pairs: int | None
    pairs_file: Path | None
    minutes: float | None
    judging: Trial
    name: str | None
    offline: bool
    pseudo_compiler: str | None
    record: dict[str, Any] = field(default_factory=dict)
    _lesson: Lesson | None = None
    _taught: Taught | None = None

    def begin(self, compiler: Compiler, wanted: Compilation) -> None:
        """Read the cases, and find the teacher; errors, before the work."""
        from ..teaching.compiling import Lesson
        from ..teaching.teacher import find_teacher

        self.judging.read(self.name, wanted, held_out=True)
        if self.pairs_file:
            check_writable(self.pairs_file)
        reference = self.teacher["reference"] or self.pseudo_compiler
        if not reference and compiler.checkpoint.encoder:
            raise OptionError(
                f"{compiler.checkpoint.folder.name} has no pseudo-compiler, which would be the "
                "teacher",
                hint="Name one: --teacher an instruct model, an endpoint's URL, or a .jsonl of "
                "pairs.",
            )
        asked = self.teacher | {"reference": reference}
        found = find_teacher(**asked, offline=self.offline, progress=status)
        seconds = 60 * self.minutes if self.minutes else math.inf
        seed = self.judging.seed
        self._lesson = Lesson(found, self.num_pairs, self.pairs_file, seed, seconds)

    def train(self, compiler: Compiler, done: Compilation, dtype: str, as_json: bool) -> None:
        """Train the program of a compilation on; exit with 1 if the result misses the gate."""
        from ..teaching.compiling import train_by_teacher

        assert self._lesson
        assert done.program
        self._taught = taught = train_by_teacher(
            done.program,
            compiler.target.path,
            self._lesson,
            dtype,
            self.judging.cases,
            progress=status,
            on_pair=draw_pairs,
            on_step=training_line(status),
        )
        StatusLine.wipe()
        done.program = taught.program
        self.record = _record(taught)
        if not as_json:
            _show(taught)
        if gate := self.judging.gate:
            report = taught.after if taught.is_better else taught.before
            self.record["gate"] = gate.record(report)
            told = {"training": self.record} if as_json else None
            hold(gate, report, told, "nothing is written; the pairs are kept")

    def finish(self) -> None:
        """Let go of what the training would go on from: the program is kept."""
        if self._taught:
            self._taught.forget()


def train_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --train and what belongs to it; the command gets `training`, None without it.

    To stand below `candidate_options`, whose --cases, --gate and --seed are then the training's.
    """

    @wraps(command)
    def run(
        train: bool,
        teacher: dict[str, Any],
        num_pairs: int | None,
        pairs_file: Path | None,
        minutes: float | None,
        **others: Any,
    ) -> Any:
        if not train:
            if num_pairs or pairs_file or minutes or any(teacher.values()):
                raise click.UsageError(
                    "--teacher, --pairs, --pairs-kept and --minutes are for --train"
                )
            return command(training=None, **others)
        trial = others["trial"] or Trial(1, None, None, 0)
        if trial.num == 1:
            others["trial"] = None  # there is nothing to choose
        training = Training(
            teacher,
            num_pairs,
            pairs_file,
            minutes,
            trial,
            others["name"],
            others["offline"],
            others["pseudo_compiler"],
        )
        return command(training=training, **others)

    return add_options(
        teacher_options(run),
        click.option("--train", is_flag=True, help="Train it on by what a teacher writes."),
        click.option(
            "--pairs", "num_pairs", type=click.IntRange(1), metavar="N",
            help="Pairs to train by.  [default: 600; all of a FILE]",
        ),
        click.option(
            "--pairs-kept", "pairs_file", metavar="PAIRS.jsonl", type=PATH,
            help="Keep the pairs there.  [default: in the cache]",
        ),
        click.option(
            "--minutes", type=FiniteRange(0, min_open=True), metavar="M",
            help="What pairs and training may take, half of it for the pairs.",
        ),
    )  # fmt: skip


def _record(taught: Taught) -> dict[str, Any]:
    judged = {
        name: {"num_correct": report.num_correct, "num_cases": len(report.judged)}
        for name, report in (("before", taught.before), ("after", taught.after))
    }
    return {
        "pairs": taught.pairs.record(),
        **judged,
        "kept": "trained" if taught.is_better else "compiled",
        "seconds": taught.seconds,
    }


def _show(taught: Taught) -> None:
    """Say which pairs it was trained by, and what became of the cases that it did not see."""
    say(show_pairs(taught.pairs))
    before, after = taught.before, taught.after
    of = len(after.judged)
    low, high = after.interval
    say(
        f"on {of:,} held-out cases: {before.num_correct:,} right as compiled, "
        f"{after.num_correct:,} trained (95 % interval {low:.1%} to {high:.1%})"
    )
    if not taught.is_better:
        say("the program stays as it was compiled: training made it worse")
