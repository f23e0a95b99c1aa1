"""The mapper as a module of arrays: the streamed one's equal, batched, and differentiable."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from compiling_repos import KINDS, converted, expected, interpreter
from mlx.utils import tree_flatten

from paw_mlx.adapter import Site
from paw_mlx.compiler.mapper import Mapper
from paw_mlx.compiler.streamed_mapper import StreamedMapper
from paw_mlx.formats.checkpoint import MAPPER, Checkpoint
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import load_base


def loaded(kind: str) -> Mapper:
    """A tiny compiler's mapper in memory."""
    mapper = Mapper(StreamedMapper(Checkpoint.read(converted(kind))).sizes)
    mapper.load_weights(str(converted(kind) / MAPPER))
    return mapper


def states(kind: str, rows: int = 1) -> mx.array:
    """Hidden states (rows, L, P, H); those of the first row are torch's."""
    hidden = mx.array(expected(kind)["hidden"])
    return mx.stack([hidden * (1 - 0.3 * row) + 0.1 * row for row in range(rows)])


@pytest.mark.parametrize("kind", KINDS)
def test_it_makes_what_the_streamed_mapper_makes(kind):
    made = loaded(kind)(states(kind))
    streamed = StreamedMapper(Checkpoint.read(converted(kind))).adapter(expected(kind)["hidden"])
    assert {Site(i, m) for m, (A, _) in made.items() for i in range(A.shape[1])} == set(
        streamed.sites
    )
    for site, pair in streamed.sites.items():
        A, B = (np.array(half[0, site.layer]) for half in made[site.module])
        np.testing.assert_allclose(A, pair.A.dense(), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(B, pair.B.dense(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_two_is_two_alone(kind):
    mapper, hidden = loaded(kind), states(kind, 2)
    both = mapper(hidden)
    for row in (0, 1):
        for module, pair in mapper(hidden[row : row + 1]).items():
            for half, one in zip(both[module], pair, strict=True):
                np.testing.assert_allclose(half[row], one[0], rtol=1e-5, atol=1e-6)
    A, B = both[next(iter(both))]
    assert mx.abs(A[0] - A[1]).max() > 0.01
    assert mx.abs(B[0] - B[1]).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_reaches_every_parameter_and_the_states(kind):
    mapper = loaded(kind)

    def loss(parameters: dict, hidden: mx.array) -> mx.array:
        mapper.update(parameters)
        return sum((B @ A).square().mean() for A, B in mapper(hidden).values())

    gradients, of_states = mx.grad(loss, argnums=(0, 1))(mapper.parameters(), states(kind, 2))
    names = {name for name, _ in tree_flatten(mapper.parameters())}
    assert names == set(mx.load(str(converted(kind) / MAPPER)))
    found = dict(tree_flatten(gradients))
    assert found.keys() == names
    assert all(float(mx.abs(gradient).max()) > 0 for gradient in found.values())
    assert float(mx.abs(of_states).max()) > 0


def test_a_new_mapper_makes_loras_that_are_nothing():
    sizes = StreamedMapper(Checkpoint.read(converted("qwen3"))).sizes
    for A, B in Mapper(sizes)(states("qwen3")).values():
        assert mx.abs(A).max() > 0
        assert mx.abs(B).max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_interpreters_loss_reaches_the_mapper(kind):
    """As the compiler is trained: two functions in a batch, each row with its own LoRA."""
    base, mapper, hidden = load_base(interpreter(kind)), loaded(kind), states(kind, 2)
    tokens = mx.array([[5, 6, 7, 8], [9, 10, 11, 12]])

    def losses(mapper: Mapper, rows: slice) -> mx.array:
        pairs = {}
        for module, (A, B) in mapper(hidden[rows]).items():
            for layer in range(A.shape[1]):
                pairs[Site(layer, module)] = (
                    A[:, layer].swapaxes(1, 2),
                    0.25 * B[:, layer].swapaxes(1, 2),
                )
        lora.attach(base.groups, pairs)
        out = base.model.hidden(tokens[rows, :-1], KV(base.model.num_layers))
        return nn.losses.cross_entropy(base.model.logits(out), tokens[rows, 1:]).mean(axis=-1)

    def loss(mapper: Mapper) -> mx.array:
        return losses(mapper, slice(None)).sum()

    together, gradients = nn.value_and_grad(mapper, loss)(mapper)
    alone = [float(losses(mapper, slice(row, row + 1))[0]) for row in (0, 1)]
    assert float(together) == pytest.approx(sum(alone), rel=1e-5)
    assert all(float(mx.abs(g).max()) > 0 for _, g in tree_flatten(gradients))
