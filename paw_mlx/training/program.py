"""Make a program by training: a LoRA for a frozen base, from input/output pairs.

The loss is the negative log likelihood of the output and its end under the program's own
prompt (Compile by Training, arXiv 2609.04199). The prefix is the same in every row, so a
step evaluates it once and all rows continue it: the same gradient for a fraction of the work.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass

import mlx.core as mx
import numpy as np

from .. import prompts
from ..adapter import Adapter, Lora, Matrix, Site
from ..cases import Case, check_cases, check_outputs, group_by_output, take_in_turn
from ..compiler.writer import write_pseudo_program
from ..errors import AdapterMismatch, OptionError
from ..formats.gguf import recode
from ..interpreter.adapters import lora
from ..interpreter.engine.scoring import (
    Score,
    encode_cases,
    prefix_kv,
    score,
    target_losses,
    target_states,
)
from ..interpreter.models.load import Base
from ..output import TEXT, Output
from ..program import Program, Template
from .loop import TrainingStep, fit, shuffled
from .memory import MicroBatch, checkpointed, divide_batch
from .recipe import Recipe

Parameters = dict[str, list[mx.array]]  # site -> [a (d_in, r), b (r, d_out)]


@dataclass(frozen=True)
class Trained:
    """A program, and its scores on the rows it was not trained on."""

    program: Program
    before: Score
    after: Score
    best_step: int
    seconds: float


class Trainer:
    """A base under training, a template around every row."""

    def __init__(self, base: Base, template: Template, recipe: Recipe) -> None:
        self.base, self.template, self.recipe = base, template, recipe
        self.sites = list(base.profile.sites())

    def parts(self, cases: Sequence[Case]) -> list[MicroBatch]:
        """Return a batch of cases, in parts that fit in memory."""
        return divide_batch(self.base, self.template, cases)

    def loss(self, parameters: Parameters, part: MicroBatch) -> mx.array:
        """Return a part's share of the batch's mean cross entropy over output tokens, in nats."""
        pairs, batch = self.pairs(parameters), part.batch
        lora.attach(self.base.groups, pairs)
        with checkpointed(self.base, pairs) if part.checkpointed else nullcontext():
            states = target_states(self.base, prefix_kv(self.base, self.template), batch)
        losses, _ = target_losses(self.base, states, batch.targets)
        return losses.sum() / part.num_targets

    def score(self, pairs: Mapping[Site, lora.Pair], cases: Sequence[Case]) -> Score:
        """Return loss and accuracy with these pairs; without any, the bare base's."""
        lora.attach(self.base.groups, pairs)
        return score(self.base, self.template, cases)

    def pairs(self, parameters: Parameters) -> dict[Site, lora.Pair]:
        """Return what the sites hold: the scale folded into b, both in the base's dtype."""
        dtype, scale = self.base.dtype, self.recipe.scale
        held = {site: parameters[str(site)] for site in self.sites}
        return {s: (a.astype(dtype), (scale * b).astype(dtype)) for s, (a, b) in held.items()}

    def initial(self) -> Parameters:
        """Draw A uniformly from ±1/√d_in; B is zero, so the adapter begins as nothing."""
        key, rank = mx.random.key(self.recipe.seed), self.recipe.rank
        parameters: Parameters = {}
        for site in self.sites:
            d_in, d_out = self.base.profile.shapes[site.module]
            key, sub = mx.random.split(key)
            a = mx.random.uniform(-(d_in**-0.5), d_in**-0.5, (d_in, rank), key=sub)
            parameters[str(site)] = [a, mx.zeros((rank, d_out))]
        return parameters

    def parameters(self, adapter: Adapter) -> Parameters:
        """Take an adapter as parameters; the recipe's scale, not its own, is then in force."""
        self.base.profile.check(adapter)
        if adapter.ranks != (self.recipe.rank,) or set(adapter.sites) != set(self.sites):
            raise AdapterMismatch(
                f"an adapter to go on from needs rank {self.recipe.rank} on all "
                f"{len(self.sites)} sites; this has {adapter.ranks} on {len(adapter.sites)}"
            )
        return {
            str(site): [
                mx.array(pair.A.dense()).T,
                (pair.scale / self.recipe.scale) * mx.array(pair.B.dense()).T,
            ]
            for site, pair in adapter.sites.items()
        }

    def adapter(self, parameters: Parameters, dtype: str) -> Adapter:
        """Make an adapter of parameters, its matrices stored as `dtype`."""
        sites = {}
        for site in self.sites:
            A, B = (Matrix.from_array(np.array(array.T)) for array in parameters[str(site)])
            sites[site] = Lora(recode(A, dtype), recode(B, dtype), self.recipe.alpha)
        return Adapter(sites)


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
) -> Trained:
    """Train a program for `base`, its A and B stored as `dtype`; `report` hears of every step.

    `start_from` is an adapter to go on from, of the recipe's rank, on every site: AdapterMismatch
    otherwise. The scores afterwards are those of A and B as stored. The best of the checked
    states by held-out loss is kept. `output` is the type of the program's outputs, the cases'
    too. Raises OptionError for too few cases or one of another type, InputTooLong for one that
    does not fit the window (they are named), CompileError if training diverges.
    """
    start = time.perf_counter()
    check_cases(cases)
    check_outputs(cases, output)
    rows, shown, held_out = divide(cases, recipe)
    pseudo = write_pseudo_program(spec, ((case.input, case.output) for case in shown))
    template = prompts.template(pseudo, base.profile.turn)
    encode_cases(base, template, cases)  # an error now, not after an hour
    trainer = Trainer(base, template, recipe)
    batches = shuffled(rows, recipe.batch_size, recipe.seed)
    with _bare_afterwards(base):
        before = trainer.score({}, held_out)
        best_step, parameters = fit(
            trainer.loss,
            trainer.parameters(start_from) if start_from else trainer.initial(),
            map(trainer.parts, batches),
            lambda parameters: trainer.score(trainer.pairs(parameters), held_out).loss,
            report,
            steps=recipe.steps,
            learning_rate=recipe.learning_rate,
            checks=recipe.checks,
        )
        adapter = trainer.adapter(parameters, dtype)
        after = trainer.score(lora.pairs(adapter, base.dtype), held_out)
    record = asdict(recipe) | {
        "best_step": best_step,
        "num_trained": len(rows),
        "num_held_out": len(held_out),
        "accuracy_before": before.accuracy,
        "accuracy_after": after.accuracy,
    }
    meta = {
        "compiler_kind": "finetune_lora",
        "interpreter_fingerprint": base.fingerprint,
        "training": record,
    }
    made_for = base.profile.repo
    program = Program(template, adapter, made_for, spec.strip(), pseudo, meta, output)
    return Trained(program, before, after, best_step, time.perf_counter() - start)


@contextmanager
def _bare_afterwards(base: Base) -> Iterator[None]:
    """Leave nothing attached to a base, also where training fails."""
    try:
        yield
    finally:
        lora.attach(base.groups, {})


def divide(cases: Sequence[Case], recipe: Recipe) -> tuple[list[Case], list[Case], list[Case]]:
    """Divide cases into those to train on, to show in the prompt, and to hold out.

    OptionError if fewer than one batch is left to train on.
    """
    rows, held_out = split(cases, recipe)
    shown = shots(rows, recipe.shots)
    rows = [row for row in rows if row not in shown]
    if len(rows) < recipe.batch_size:
        raise OptionError(
            f"{len(cases)} cases leave {len(rows)} to train on, with {len(held_out)} held out and "
            f"{len(shown)} shown in the prompt: fewer than one batch of {recipe.batch_size}"
        )
    return rows, shown, held_out


def doubt(cases: Sequence[Case]) -> str | None:
    """Say why cases may teach nothing: all have one output. None if they differ."""
    outputs = {case.output.strip() for case in cases}
    if len(cases) > 1 and len(outputs) == 1:
        return (
            f"all {len(cases):,} examples have the output {outputs.pop()!r}: a program trained "
            "on them says it of anything"
        )
    return None


def split(cases: Sequence[Case], recipe: Recipe) -> tuple[list[Case], list[Case]]:
    """Shuffle by the seed and set some rows apart; equal inputs stay on one side."""
    inputs = sorted({case.input for case in cases})
    random.Random(recipe.seed).shuffle(inputs)
    num = max(1, round(len(inputs) * recipe.held_out))
    apart = set(inputs[:num])
    rows = [case for case in cases if case.input not in apart]
    random.Random(recipe.seed).shuffle(rows)
    return rows, [case for case in cases if case.input in apart]


def shots(rows: Sequence[Case], num: int) -> list[Case]:
    """Choose rows to show in the pseudo-program: one of each output in turn, so labels balance."""
    return take_in_turn(group_by_output(rows), num)
