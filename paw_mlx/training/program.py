"""Make a program by training: a LoRA for a frozen base, from input/output pairs.

The loss is the negative log likelihood of the output and its end under the program's own
prompt (Compile by Training, arXiv 2609.04199). The prefix is the same in every row, so a
step evaluates it once and all rows continue it: the same gradient for a fraction of the work.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

from .. import prompts
from ..adapter import Adapter
from ..cases import Case, check_cases, check_outputs, group_by_output, take_in_turn
from ..compiler.writer import write_pseudo_program
from ..errors import OptionError
from ..evaluation import Judged, Report, judge
from ..functions import Function
from ..interpreter import Interpreter
from ..interpreter.adapters import lora
from ..interpreter.base.tokenizer import Tokenizer
from ..interpreter.engine.scoring import Score, encode_cases
from ..interpreter.models.load import Base
from ..output import TEXT, Labels, Output
from ..program import Program, Template
from ..runner import Options
from .batches import balanced, classes
from .checkpoint import Checkpoints
from .loop import Check, Fit, TrainingStep, Way
from .recipe import Recipe
from .replay import case_key
from .trainer import Trainer

_SHOWN = 128  # tokens of the rows that a prompt shows
_SPARE_TOKENS = 8  # beyond the longest output, so that one without an end is not cut to be right
_MOST_HELD_OUT = 64  # of a class: every check reads them
_FEW = 10  # held-out cases: what fewer get right is chance


@dataclass(frozen=True)
class Fitted:
    """An adapter, and its scores on the rows it was not trained on.

    `recipe` says how many steps it was to take. `curve` has a row for every step: its loss, the
    seconds so far, and what was held out at checks.
    """

    adapter: Adapter
    before: Score
    after: Score
    best_step: int
    seconds: float
    recipe: Recipe
    curve: Sequence[Mapping[str, Any]] = ()

    def record(self, num_trained: int, num_held_out: int, seen: Iterable[str]) -> dict[str, Any]:
        """Return what a program's meta says of its training; `seen` are keys of rows."""
        return asdict(self.recipe) | {
            "best_step": self.best_step,
            "num_trained": num_trained,
            "num_held_out": num_held_out,
            "accuracy_before": self.before.accuracy,
            "accuracy_after": self.after.accuracy,
            "seen": sorted(seen),
        }

    def retrained(self, program: Program, record: Mapping[str, Any]) -> Program:
        """Return the program that was trained on, with its new adapter and that record."""
        meta = {k: v for k, v in program.meta.items() if k != "program_id"}  # of another program
        return replace(program, adapter=self.adapter, meta=meta | {"training": record})


@dataclass(frozen=True)
class Trained(Fitted):
    """A program with what it was trained by."""

    program: Program = field(kw_only=True)
    held_out: Sequence[Case] = field(kw_only=True)


def train(
    base: Base,
    spec: str,
    cases: Sequence[Case],
    recipe: Recipe,
    report: Callable[[TrainingStep], None] = lambda step: None,
    *,
    start_from: Adapter | None = None,
    dtype: str = "f32",
    output: Output = TEXT,
    folder: Path | None = None,
    deadline_s: float | None = None,
) -> Trained:
    """Train a program for `base` by cases, some of them held out and some shown in its prompt.

    `output` is the type of the program's outputs, the cases' too; the rest is as `fit_adapter` has
    it. Raises OptionError for too few cases, cases that all have one output, or one of another
    type, InputTooLong for one that does not fit the window (they are named).
    """
    check_cases(cases)
    check_outputs(cases, output)
    rows, shown, held_out = divide(cases, recipe, base.tokenizer)
    pseudo = write_pseudo_program(spec, ((case.input, case.output) for case in shown))
    template = prompts.template(pseudo, base.profile.turn)
    encode_cases(base, template, cases)  # an error now, not after an hour
    fitted = fit_adapter(
        base,
        template,
        rows,
        held_out,
        recipe,
        report,
        start_from=start_from,
        dtype=dtype,
        output=output,
        folder=folder,
        deadline_s=deadline_s,
    )
    meta = {
        "compiler_kind": "finetune_lora",
        "interpreter_fingerprint": base.fingerprint,
        "training": fitted.record(len(rows), len(held_out), map(case_key, cases)),
    }
    program = Program(
        template, fitted.adapter, base.profile.repo, spec.strip(), pseudo, meta, output
    )
    return Trained(**vars(fitted), program=program, held_out=held_out)


def judge_held_out(base: Base, trained: Trained) -> Report:
    """Run a trained program on what was held out, as its users will, and judge it."""
    with Interpreter(base) as interpreter:
        return judge(Function(interpreter, trained.program), trained.held_out)


def judge_on(base: Base, program: Program, cases: Sequence[Case], among: Sequence[Case]) -> Report:
    """Run a program on cases and judge it; an output is cut a little beyond the longest right one.

    `among` are the cases whose outputs may be the longest.
    """
    longest = max(len(base.tokenizer.encode(case.output.strip())) for case in among)
    with Interpreter(base) as interpreter:
        options = Options(max_tokens=longest + _SPARE_TOKENS)
        return judge(Function(interpreter, program), cases, options)


def fit_adapter(
    base: Base,
    template: Template,
    rows: Sequence[Case],
    held_out: Sequence[Case],
    recipe: Recipe,
    report: Callable[[TrainingStep], None] = lambda step: None,
    *,
    start_from: Adapter | None = None,
    dtype: str = "f32",
    output: Output = TEXT,
    folder: Path | None = None,
    deadline_s: float | None = None,
) -> Fitted:
    """Train an adapter by rows, its A and B stored as `dtype`; `report` hears of every step.

    Of the first state and those that are checked, the best by `held_out` is kept: by macro F1
    where outputs are labels, else by accuracy, and between equals by loss; fewer than ten judge by
    their loss alone. `start_from` is an adapter to go on from, of the recipe's rank, on every site:
    AdapterMismatch otherwise. The scores afterwards are those of A and B as stored. With `folder`,
    a run that was cut off goes on from its last check, a finished one too: it lies there until the
    caller removes it. It takes about `deadline_s` seconds at most, all told. CompileError if
    training diverges.
    """
    start = time.perf_counter()
    recipe = _plan(base, template, rows, recipe)
    trainer = Trainer(base, template, recipe)
    check = partial(_check, base, held_out, output)
    batches = balanced(rows, recipe.batch_size, recipe.seed)
    assert recipe.steps
    way = Way(recipe.steps, recipe.learning_rate, recipe.checks, recipe.patience, deadline_s)
    terms = _terms(base, template, rows, held_out, recipe, start_from)
    kept = Checkpoints(folder, terms) if folder else None
    with lora.bare_afterwards(base.groups):
        begin = trainer.parameters(start_from) if start_from else trainer.initial()
        trainer.adapter(begin, dtype)  # an error now, not after an hour
        before = trainer.score(trainer.pairs(begin), held_out)
        fit = Fit(
            trainer.loss,
            begin,
            check(before),
            lambda parameters: check(trainer.score(trainer.pairs(parameters), held_out)),
            way,
            kept,
        )
        best_step, parameters = fit.run(map(trainer.parts, batches), report)
        adapter = trainer.adapter(parameters, dtype)
        after = trainer.score(lora.pairs(adapter, base.dtype), held_out)
    seconds = time.perf_counter() - start
    return Fitted(adapter, before, after, best_step, seconds, recipe, fit.curve)


def _plan(base: Base, template: Template, rows: Sequence[Case], recipe: Recipe) -> Recipe:
    """Return a recipe that says how many steps it takes on these rows."""
    prefix = len(base.tokenizer.encode(template.prefix, control=True))
    sizes = [len(row.input) + len(row.output) for row in encode_cases(base, template, rows)]
    return recipe.planned(prefix + round(recipe.batch_size * fmean(sizes)))


def _check(base: Base, cases: Sequence[Case], output: Output, score: Score) -> Check:
    """Return how good a score is; what was said is told from the tokens that greedy decoding says.

    The loss is the mean over classes: what is rare counts like what is common. Fewer than ten cases
    are no measure of accuracy: theirs is the probability of a right output (its geometric mean).
    """
    losses = {id(case): row.loss for case, row in zip(cases, score.rows, strict=True)}
    loss = fmean(fmean(losses[id(case)] for case in group) for group in classes(cases))
    metric, encode = score.accuracy, base.tokenizer.encode
    if len(cases) < _FEW:
        metric = math.exp(-loss)
    elif isinstance(output, Labels):
        labels = {label: [*encode(label), base.end] for label in output.labels}
        judged = []
        for case, row in zip(cases, score.rows, strict=True):
            said = [label for label, ids in labels.items() if ids[: len(row.greedy)] == row.greedy]
            judged.append(Judged(case.input, case.output, said[0] if len(said) == 1 else ""))
        metric = Report(judged).macro_f1
    return Check(metric, loss)


def _terms(
    base: Base,
    template: Template,
    rows: Sequence[Case],
    held_out: Sequence[Case],
    recipe: Recipe,
    start_from: Adapter | None,
) -> str:
    """Hash what a training's result depends on (64 hex)."""
    begin = Program(template, start_from, base.fingerprint).digest()
    pairs = [[(case.input, case.output) for case in part] for part in (rows, held_out)]
    return hashlib.sha256(json.dumps([begin, asdict(recipe), pairs]).encode()).hexdigest()


def divide(
    cases: Sequence[Case], recipe: Recipe, tokenizer: Tokenizer
) -> tuple[list[Case], list[Case], list[Case]]:
    """Divide cases into those to train on, to show in the prompt, and to hold out.

    OptionError if fewer than one batch is left to train on, or all have one output.
    """
    if len(cases) > 1 and len({case.output.strip() for case in cases}) == 1:
        raise OptionError(
            f"all {len(cases):,} examples have the output {cases[0].output.strip()!r}: a program "
            "trained on them says it of anything",
            hint="Add examples of what else it may say.",
        )
    rows, held_out = split(cases, recipe)
    shown = shots(rows, recipe.shots, tokenizer)
    rows = [row for row in rows if row not in shown]
    if len(rows) < recipe.batch_size:
        raise OptionError(
            f"{len(cases)} cases leave {len(rows)} to train on, with {len(held_out)} held out and "
            f"{len(shown)} shown in the prompt: fewer than one batch of {recipe.batch_size}"
        )
    return rows, shown, held_out


def split(cases: Sequence[Case], recipe: Recipe) -> tuple[list[Case], list[Case]]:
    """Shuffle by the seed and set a share of each class apart, 64 rows of it at most.

    Equal inputs stay on one side.
    """
    chance = random.Random(recipe.seed)
    apart: set[str] = set()
    for group in classes(cases):
        inputs = sorted({case.input for case in group} - apart)
        chance.shuffle(inputs)
        apart |= set(inputs[: max(1, min(_MOST_HELD_OUT, round(len(inputs) * recipe.held_out)))])
    rows = [case for case in cases if case.input not in apart]
    chance.shuffle(rows)
    return rows, [case for case in cases if case.input in apart]


def shots(rows: Sequence[Case], num: int, tokenizer: Tokenizer) -> list[Case]:
    """Choose rows to show in the pseudo-program: one of each output in turn, so labels balance.

    So many, or fewer where they are long: every call and every step reads them.
    """
    chosen = take_in_turn(group_by_output(rows), num)
    sizes = [len(tokenizer.encode(f"{row.input}\n{row.output}")) for row in chosen]
    return [row for row, size in zip(chosen, accumulate(sizes), strict=True) if size <= _SHOWN]
