"""What a compiler's training lowers: a mapper's loss, under the frozen interpreter.

The mapper makes a LoRA of each function's spec, the interpreter carries it, a row for each
function, and reads the function's cases. The loss is the negative log likelihood of their outputs
(arXiv 2607.02512). Its gradient reaches the mapper's arrays, and through the encoder the prefix
tokens and the encoder's own LoRA, if these are trained.

A mapper begins as one adapter for every spec: its coefficients' bias gives each layer bases of
its own, its head is zero. So what it learns of specs can only add to it. Its trunk begins as the
principal components of what the encoder says of the corpus's specs, each of variance 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..adapter import Site
from ..compiler.base_encoder import (
    PREFIX,
    SpecReader,
    encode_spec,
    encoder_arrays,
    encoder_pairs,
)
from ..compiler.mapper import HEAD, make_pairs, pool
from ..errors import FormatError, listed
from ..formats.checkpoint import MapperSizes
from ..interpreter.adapters import lora
from ..interpreter.models.load import Base
from .memory import checkpointed
from .packed import Packed, PackedCache, pack
from .recipe import CompilerRecipe
from .sampling import Drawn

Arrays = dict[str, mx.array]

_TRUNK = HEAD[:2]


class Batch(NamedTuple):
    """Functions in tokens, and what the encoder says of each spec (F, H), or the specs' tokens."""

    packed: Packed
    pooled: mx.array | None
    specs: Sequence[list[int]]


class MapperTrainer:
    """A mapper under training, between an encoder and a frozen interpreter."""

    def __init__(
        self, base: Base, reader: SpecReader, recipe: CompilerRecipe, *, checkpointing: bool
    ) -> None:
        self.base, self.reader, self.recipe = base, reader, recipe
        self.checkpointing = checkpointing
        self.sizes = MapperSizes(
            hidden_size=reader.hidden_size,
            trunk_size=recipe.trunk,
            num_layers=base.profile.num_layers,
            modules=dict(sorted(base.profile.shapes.items())),
            num_bases=recipe.bases or base.profile.num_layers,
            rank=recipe.rank,
        )

    @property
    def trains_encoder(self) -> bool:
        """Whether gradients go through the encoder: its states are then no constants."""
        return bool(self.recipe.prefix_tokens) or self.recipe.train_encoder == "lora"

    def initial(
        self, pooled: np.ndarray | None, start_from: Mapping[str, mx.array] | None = None
    ) -> Arrays:
        """Return a mapper's arrays to begin with: another's, or new ones.

        `pooled` (S, H) is what the encoder says of some specs: a trunk that nothing has used yet
        begins with that. FormatError if the other mapper is of other sizes.
        """
        sizes, key = self.sizes, mx.random.key(self.recipe.seed)
        if pooled is None:
            pooled = np.zeros((1, sizes.hidden_size), np.float32)
        weight, bias = whiten(pooled, sizes.trunk_size, self.recipe.seed)
        arrays = {
            "trunk.0.weight": mx.array(weight),
            "trunk.0.bias": mx.array(bias),
            "coeff_head.weight": mx.zeros((sizes.num_coefficients, sizes.trunk_size)),
            "coeff_head.bias": mx.array(_one_basis_each(sizes).reshape(-1)),
        }
        for module, (d_in, d_out) in sizes.modules.items():
            key, sub = mx.random.split(key)
            arrays[f"A_bases_{module}"] = mx.random.uniform(
                -(d_in**-0.5), d_in**-0.5, (sizes.num_bases, sizes.rank, d_in), key=sub
            )
            arrays[f"B_bases_{module}"] = mx.zeros((sizes.num_bases, d_out, sizes.rank))
        if self.recipe.prefix_tokens:
            shape = (self.recipe.prefix_tokens, sizes.hidden_size)
            arrays[PREFIX] = 0.02 * mx.random.normal(shape, key=mx.random.split(key)[0])
        if self.recipe.train_encoder == "lora":
            arrays |= self._initial_encoder(mx.random.split(key)[1])
        return arrays | self._taken_over(arrays, start_from or {})

    def _taken_over(self, arrays: Arrays, given: Mapping[str, mx.array]) -> Arrays:
        """Return what of a given mapper is gone on from; its trunk only if its head uses it."""
        head = given.get("coeff_head.weight")
        unused = _TRUNK if head is not None and not mx.any(head).item() else ()
        taken = {n: a.astype(mx.float32) for n, a in given.items() if n not in unused}
        odd = sorted(n for n, a in taken.items() if n not in arrays or arrays[n].shape != a.shape)
        if odd:
            raise FormatError(
                f"{len(odd)} arrays of the compiler to go on from have other sizes: {listed(odd)}",
                hint="Take its rank, bases and trunk: its meta.json names them.",
            )
        return taken

    def trained(self, arrays: Arrays) -> Arrays:
        """Return those of the arrays that are trained: of a fixed adapter, the bases."""
        frozen = HEAD if self.recipe.fixed else ()
        return {name: array for name, array in arrays.items() if name not in frozen}

    def prepare(self, drawn: Sequence[Drawn], pooled: mx.array | None) -> Batch:
        """Lay out functions for a step; `pooled` (F, H) is what is known of their specs."""
        packed = pack([(each.prompt, each.cases) for each in drawn])
        tokenizer = self.reader.base.tokenizer
        specs = [encode_spec(tokenizer, each.spec) for each in drawn] if self.trains_encoder else []
        return Batch(packed, pooled, specs)

    def loss(self, arrays: Arrays, batch: Batch) -> mx.array:
        """Return the negative log likelihood of the cases' outputs, in nats, a weighted mean.

        `pack` says how the tokens of an output are weighed.
        """
        packed = batch.packed
        losses, _ = self.losses(arrays, batch)
        return (losses * packed.weights).sum()

    def losses(self, arrays: Arrays, batch: Batch) -> tuple[mx.array, mx.array]:
        """Return each target's loss (N,), in nats, and whether it is the best token (N,)."""
        packed, base = batch.packed, self.base
        pairs = self.pairs(arrays, self._pooled(arrays, batch))
        lora.attach(base.groups, pairs)
        with checkpointed(base, pairs) if self.checkpointing else nullcontext():
            states = base.model.hidden(packed.tokens, PackedCache(packed, base.model.num_layers))
        logits = base.model.logits(states[packed.rows, packed.places]).astype(mx.float32)
        losses = nn.losses.cross_entropy(logits, packed.targets)
        return losses, logits.argmax(axis=-1) == packed.targets

    def pairs(self, arrays: Arrays, pooled: mx.array | None) -> dict[Site, lora.Pair]:
        """Return what the sites hold for specs (F, H): a pair for each, or one for all."""
        dtype, scale = self.base.dtype, self.recipe.scale
        found: dict[Site, lora.Pair] = {}
        for module, (A, B) in make_pairs(arrays, pooled, self.sizes).items():
            a = A.swapaxes(-1, -2).astype(dtype)  # (..., L, d_in, r)
            b = (scale * B).swapaxes(-1, -2).astype(dtype)  # (..., L, r, d_out)
            for layer in range(self.sizes.num_layers):
                found[Site(layer, module)] = a[..., layer, :, :], b[..., layer, :, :]
        return found

    def read(self, arrays: Arrays, tokens: list[int]) -> mx.array:
        """Return what the encoder says of a spec, (H,), with what of it is trained."""
        base = self.reader.base
        lora.attach(base.groups, encoder_pairs(arrays, base))
        return pool(self.reader.states(tokens, arrays.get(PREFIX)))

    def _pooled(self, arrays: Arrays, batch: Batch) -> mx.array | None:
        if not self.trains_encoder:
            return batch.pooled
        return mx.stack([self.read(arrays, tokens) for tokens in batch.specs])

    def _initial_encoder(self, key: mx.array) -> Arrays:
        """Return a LoRA of the encoder that is nothing yet."""
        arrays: Arrays = {}
        shapes = encoder_arrays(self.reader.base.profile, self.recipe.rank)
        for name, shape in shapes.items():
            key, sub = mx.random.split(key)
            bound = shape[0] ** -0.5 if name.endswith(".a") else 0.0
            arrays[name] = mx.random.uniform(-bound, bound, shape, key=sub)
        return arrays


def is_mapper(name: str) -> bool:
    """Return whether an array is the mapper's; else it is the encoder's."""
    return name in HEAD or name[:8] in ("A_bases_", "B_bases_")


def whiten(pooled: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (size, H) and bias (size,) that make principal components of variance 1.

    `pooled` (S, H) are observations. Where they have fewer than `size` components, the rest is
    random, and small.
    """
    mean = pooled.mean(axis=0, dtype=np.float64)
    _, singular, components = np.linalg.svd(pooled - mean, full_matrices=False)
    kept = min(size, int((singular > 1e-3 * max(singular[0], 1e-12)).sum()))
    weight = np.random.default_rng(seed).normal(0, 0.02, (size, pooled.shape[1]))
    scale = singular[:kept, None] / np.sqrt(max(len(pooled) - 1, 1))
    # An eigenvector's sign is anybody's: the largest number in it is positive here.
    signs = np.sign(
        np.take_along_axis(
            components[:kept], np.abs(components[:kept]).argmax(axis=1)[:, None], axis=1
        )
    )
    weight[:kept] = components[:kept] * signs / scale
    return weight.astype(np.float32), (-weight @ mean).astype(np.float32)


def _one_basis_each(sizes: MapperSizes) -> np.ndarray:
    """Return coefficients (L, M, N, 2) that give layer l the basis l·N // L alone."""
    found = np.zeros(sizes.coefficients, np.float32)
    layers = np.arange(sizes.num_layers)
    found[layers, :, layers * sizes.num_bases // sizes.num_layers] = 1
    return found
