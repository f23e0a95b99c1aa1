"""Make a program by training: a LoRA for a frozen base, from input/output pairs.

The loss is the negative log likelihood of the output and its end under the program's own
prompt (Compile by Training, arXiv 2609.04199). The prefix is the same in every row, so a
step evaluates it once and all rows continue it: the same gradient for a fraction of the work.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from .. import prompts
from ..adapter import Adapter, Lora, Matrix, Site
from ..cases import Case
from ..errors import AdapterMismatch, CompileError, OptionError
from ..formats.gguf import recoded
from ..interpreter import lora
from ..interpreter.scoring import Batch, Score, make_batch, prefix_kv, score, target_logits
from ..interpreter.weights import Base
from ..program import Program, Template


@dataclass(frozen=True)
class Recipe:
    """How to train. `held_out` is the share of the cases that is never trained on."""

    rank: int = 32
    alpha: float = 16.0
    steps: int = 120
    learning_rate: float = 1e-3
    batch_size: int = 8
    shots: int = 4  # cases shown in the pseudo-program
    held_out: float = 0.1
    checks: int = 4  # how often the held-out loss is looked at, to keep the best
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise OptionError(f"seed must lie in 0 … 2^64 - 1, not {self.seed}")
        if min(self.rank, self.steps, self.batch_size, self.checks) < 1:
            raise OptionError("rank, steps, batch_size and checks must be at least 1")
        if not (self.alpha > 0 and self.learning_rate > 0 and 0 < self.held_out < 1):
            raise OptionError("alpha and learning_rate must be above 0, held_out between 0 and 1")


@dataclass(frozen=True)
class Step:
    """What a finished step reports; `held_out_loss` at checks only."""

    number: int
    loss: float
    held_out_loss: float | None


@dataclass(frozen=True)
class Trained:
    """A program, and its scores on the rows it was not trained on."""

    program: Program
    before: Score
    after: Score
    best_step: int
    seconds: float


Parameters = dict[str, list[mx.array]]  # site -> [a (d_in, r), b (r, d_out)]


class Trainer:
    """A base under training, a template around every row."""

    def __init__(self, base: Base, template: Template, recipe: Recipe) -> None:
        self.base, self.template, self.recipe = base, template, recipe
        self.sites = list(base.profile.sites())

    def loss(self, parameters: Parameters, batch: Batch) -> mx.array:
        """Mean cross entropy over output tokens, in nats."""
        lora.attach(self.base.groups, self.pairs(parameters))
        logits = target_logits(self.base, prefix_kv(self.base, self.template), batch)
        return nn.losses.cross_entropy(logits, batch.targets, reduction="mean")

    def score(self, parameters: Parameters | None, cases: Sequence[Case]) -> Score:
        """Loss and accuracy of parameters, or of the bare base."""
        lora.attach(self.base.groups, self.pairs(parameters) if parameters else {})
        return score(self.base, self.template, cases)

    def pairs(self, parameters: Parameters) -> dict[Site, lora.Pair]:
        """What the sites hold: the scale folded into b, both in the base's dtype."""
        dtype, scale = self.base.dtype, self.recipe.alpha / self.recipe.rank
        held = {site: parameters[str(site)] for site in self.sites}
        return {s: (a.astype(dtype), (scale * b).astype(dtype)) for s, (a, b) in held.items()}

    def initial(self) -> Parameters:
        """A uniform in ±1/√d_in, B zero: the adapter begins as nothing."""
        key, rank = mx.random.key(self.recipe.seed), self.recipe.rank
        parameters: Parameters = {}
        for site in self.sites:
            d_in, d_out = self.base.profile.shapes[site.module]
            key, sub = mx.random.split(key)
            a = mx.random.uniform(-(d_in**-0.5), d_in**-0.5, (d_in, rank), key=sub)
            parameters[str(site)] = [a, mx.zeros((rank, d_out))]
        return parameters

    def parameters(self, adapter: Adapter) -> Parameters:
        """An adapter as parameters; the recipe's scale, not its own, is in force afterwards."""
        adapter.check(self.base.profile)
        if adapter.ranks != (self.recipe.rank,) or set(adapter.sites) != set(self.sites):
            raise AdapterMismatch(
                f"an adapter to go on from needs rank {self.recipe.rank} on all "
                f"{len(self.sites)} sites; this has {adapter.ranks} on {len(adapter.sites)}"
            )
        scale = self.recipe.alpha / self.recipe.rank
        return {
            str(site): [
                mx.array(pair.A.dense()).T,
                (pair.scale / scale) * mx.array(pair.B.dense()).T,
            ]
            for site, pair in adapter.sites.items()
        }

    def adapter(self, parameters: Parameters, dtype: str) -> Adapter:
        """Parameters in the canonical orientation, stored as `dtype`."""
        sites = {}
        for site in self.sites:
            A, B = (Matrix.from_array(np.array(array.T)) for array in parameters[str(site)])
            sites[site] = Lora(recoded(A, dtype), recoded(B, dtype), self.recipe.alpha)
        return Adapter(sites)


def train(
    base: Base,
    spec: str,
    cases: Sequence[Case],
    recipe: Recipe,
    report: Callable[[Step], None] = lambda step: None,
    *,
    start_from: Adapter | None = None,
    dtype: str = "f32",
) -> Trained:
    """Train a program for `base`, its A and B stored as `dtype`; `report` hears of every step.

    `start_from` is an adapter to go on from, of the recipe's rank, on every site: AdapterMismatch
    otherwise. The scores afterwards are those of A and B as stored. The best of the checked
    states by held-out loss is kept. Raises OptionError for too few cases, InputTooLong for one
    that does not fit the window, CompileError if training diverges.
    """
    start = time.perf_counter()
    rows, held_out = split(cases, recipe)
    shown = shots(rows, recipe.shots)
    rows = [row for row in rows if row not in shown]
    if len(rows) < recipe.batch_size:
        raise OptionError(
            f"{len(cases)} cases leave {len(rows)} to train on, with {len(held_out)} held out and "
            f"{len(shown)} shown in the prompt: fewer than one batch of {recipe.batch_size}"
        )
    pseudo = prompts.pseudo_program(spec, shown)
    template = prompts.template(pseudo, base.profile.turn)
    make_batch(base, template, cases)  # InputTooLong now, not after an hour
    trainer = Trainer(base, template, recipe)
    before = trainer.score(None, held_out)
    parameters = trainer.parameters(start_from) if start_from else trainer.initial()
    best_step, parameters = _fit(trainer, parameters, rows, held_out, report)
    adapter = trainer.adapter(parameters, dtype)
    lora.attach(base.groups, lora.pairs(adapter, base.dtype))
    after = score(base, template, held_out)
    lora.attach(base.groups, {})
    record = asdict(recipe) | {
        "best_step": best_step,
        "num_trained": len(rows),
        "num_held_out": len(held_out),
        "accuracy_before": before.accuracy,
        "accuracy_after": after.accuracy,
    }
    program = Program(
        template=template,
        adapter=adapter,
        interpreter=base.profile.repo,
        spec=spec.strip(),
        pseudo_program=pseudo,
        meta={
            "compiler_kind": "finetune_lora",
            "interpreter_fingerprint": base.fingerprint,
            "training": record,
        },
    )
    return Trained(program, before, after, best_step, time.perf_counter() - start)


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
    """Rows to show in the pseudo-program: one of each output in turn, so labels balance."""
    waiting: dict[str, list[Case]] = {}
    for row in rows:
        waiting.setdefault(row.output, []).append(row)
    turns = zip_longest(*waiting.values())
    return [row for turn in turns for row in turn if row is not None][:num]


def _fit(
    trainer: Trainer,
    parameters: Parameters,
    rows: Sequence[Case],
    held_out: Sequence[Case],
    report: Callable[[Step], None],
) -> tuple[int, Parameters]:
    """Run the steps; the best checked state and its step."""
    recipe = trainer.recipe
    optimizer = optim.Adam(learning_rate=_schedule(recipe), bias_correction=True)
    differentiate = mx.value_and_grad(trainer.loss)
    best = (math.inf, 0, parameters)
    every = max(1, recipe.steps // recipe.checks)
    for number, chosen in enumerate(_batches(rows, recipe), start=1):
        batch = make_batch(trainer.base, trainer.template, chosen)
        loss, gradients = differentiate(parameters, batch)
        _check_finite(float(loss), number, recipe)
        parameters = optimizer.apply_gradients(gradients, parameters)
        mx.eval(loss, parameters, optimizer.state)
        held_out_loss = None
        if number % every == 0 or number == recipe.steps:
            held_out_loss = trainer.score(parameters, held_out).loss
            _check_finite(held_out_loss, number, recipe)
            best = min(best, (held_out_loss, number, parameters), key=lambda state: state[0])
        report(Step(number, float(loss), held_out_loss))
    return best[1], best[2]


def _check_finite(loss: float, number: int, recipe: Recipe) -> None:
    if not math.isfinite(loss):
        raise CompileError(
            f"training diverged: the loss of step {number} is {loss}",
            hint=f"Lower the learning rate; it was {recipe.learning_rate:g}.",
        )


def _schedule(recipe: Recipe) -> Callable[[mx.array], mx.array]:
    """A tenth of the steps to warm up, then a cosine down to zero."""
    warmup = max(1, recipe.steps // 10)
    rise = optim.linear_schedule(recipe.learning_rate / warmup, recipe.learning_rate, warmup)
    fall = optim.cosine_decay(recipe.learning_rate, max(1, recipe.steps - warmup))
    return optim.join_schedules([rise, fall], [warmup])


def _batches(rows: Sequence[Case], recipe: Recipe) -> Iterator[list[Case]]:
    """`recipe.steps` batches, shuffled; an epoch leaves out less than one.

    Sorting by length would save padding, but length tells of the label, and then so does a batch.
    """
    chance, size, left = random.Random(recipe.seed), recipe.batch_size, recipe.steps
    while left:
        order = chance.sample(rows, len(rows))
        epoch = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
        yield from epoch[:left]
        left -= min(left, len(epoch))
