"""A base under training: the loss of rows in its prompt, and what is trained, as an adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import mlx.core as mx
import numpy as np

from ..adapter import Adapter, Lora, Matrix, Site
from ..cases import Case
from ..errors import AdapterMismatch
from ..formats.gguf import recode
from ..interpreter.adapters import lora
from ..interpreter.engine.scoring import Score, prefix_kv, score, target_losses, target_states
from ..interpreter.models.load import Base
from ..program import Template
from .memory import MicroBatch, checkpointed, divide_batch
from .recipe import Recipe

Parameters = dict[str, list[mx.array]]  # site -> [a (d_in, r), b (r, d_out)]


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
