"""The mapper's formulas on arrays: the streamed one's equal, batched, and differentiable."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from compiling_repos import KINDS, converted, expected, interpreter

from paw_mlx.adapter import Site
from paw_mlx.compiler.mapper import make_pairs, pool
from paw_mlx.compiler.streamed_mapper import StreamedMapper
from paw_mlx.formats.checkpoint import MAPPER, Checkpoint, MapperSizes
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import load_base


def loaded(kind: str) -> tuple[dict[str, mx.array], MapperSizes]:
    """A tiny compiler's mapper in memory."""
    sizes = StreamedMapper(Checkpoint.read(converted(kind))).sizes
    return dict(mx.load(str(converted(kind) / MAPPER))), sizes


def states(kind: str, rows: int = 1) -> mx.array:
    """Hidden states (rows, L, P, H); those of the first row are torch's."""
    hidden = mx.array(expected(kind)["hidden"])
    return mx.stack([hidden * (1 - 0.3 * row) + 0.1 * row for row in range(rows)])


@pytest.mark.parametrize("kind", KINDS)
def test_it_makes_what_the_streamed_mapper_makes(kind):
    arrays, sizes = loaded(kind)
    made = make_pairs(arrays, pool(states(kind)), sizes)
    streamed = StreamedMapper(Checkpoint.read(converted(kind))).adapter(expected(kind)["hidden"])
    assert {Site(i, m) for m, (A, _) in made.items() for i in range(A.shape[1])} == set(
        streamed.sites
    )
    for site, pair in streamed.sites.items():
        A, B = (np.array(half[0, site.layer]) for half in made[site.module])
        np.testing.assert_allclose(A, pair.A.dense(), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(B, pair.B.dense(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_file(kind):
    arrays, sizes = loaded(kind)
    assert arrays["trunk.0.weight"].shape == (sizes.trunk_size, sizes.hidden_size)
    assert arrays["coeff_head.weight"].shape == (sizes.num_coefficients, sizes.trunk_size)
    assert pool(states(kind, 2)).shape == (2, sizes.hidden_size)


def test_a_trunk_may_be_narrower_than_the_states():
    arrays, sizes = loaded("qwen3")
    arrays["trunk.0.weight"], arrays["trunk.0.bias"] = (
        arrays[f"trunk.0.{part}"][:5] for part in ("weight", "bias")
    )
    arrays["coeff_head.weight"] = arrays["coeff_head.weight"][:, :5]
    found = make_pairs(arrays, pool(states("qwen3")), replace(sizes, trunk_size=5))
    before = make_pairs(loaded("qwen3")[0], pool(states("qwen3")), sizes)
    for module, (A, B) in found.items():
        assert (A.shape, B.shape) == tuple(half.shape for half in before[module])
        assert mx.abs(A - before[module][0]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_two_is_two_alone(kind):
    arrays, sizes = loaded(kind)
    pooled = pool(states(kind, 2))
    both = make_pairs(arrays, pooled, sizes)
    for row in (0, 1):
        for module, pair in make_pairs(arrays, pooled[row], sizes).items():
            for half, one in zip(both[module], pair, strict=True):
                np.testing.assert_allclose(half[row], one, rtol=1e-5, atol=1e-6)
    A, B = both[next(iter(both))]
    assert mx.abs(A[0] - A[1]).max() > 0.01
    assert mx.abs(B[0] - B[1]).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_without_states_it_makes_what_every_spec_has_in_common(kind):
    arrays, sizes = loaded(kind)
    common = make_pairs(arrays, None, sizes)
    arrays["coeff_head.weight"] = mx.zeros_like(arrays["coeff_head.weight"])
    for module, pair in make_pairs(arrays, pool(states(kind))[0], sizes).items():
        for half, one in zip(common[module], pair, strict=True):
            np.testing.assert_allclose(half, one, rtol=1e-6, atol=1e-7)
            assert mx.abs(half).max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_reaches_every_array_and_the_states(kind):
    arrays, sizes = loaded(kind)

    def loss(arrays: dict, hidden: mx.array) -> mx.array:
        pairs = make_pairs(arrays, pool(hidden), sizes)
        return sum((B @ A).square().mean() for A, B in pairs.values())

    gradients, of_states = mx.grad(loss, argnums=(0, 1))(arrays, states(kind, 2))
    assert gradients.keys() == arrays.keys()
    assert all(float(mx.abs(gradient).max()) > 0 for gradient in gradients.values())
    assert float(mx.abs(of_states).max()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_interpreters_loss_reaches_the_mapper(kind):
    """As the compiler is trained: two functions in a batch, each row with its own LoRA."""
    base, (arrays, sizes) = load_base(interpreter(kind)), loaded(kind)
    pooled, tokens = pool(states(kind, 2)), mx.array([[5, 6, 7, 8], [9, 10, 11, 12]])

    def losses(arrays: dict, rows: slice) -> mx.array:
        pairs = {}
        for module, (A, B) in make_pairs(arrays, pooled[rows], sizes).items():
            for layer in range(A.shape[1]):
                pairs[Site(layer, module)] = (
                    A[:, layer].swapaxes(1, 2),
                    0.25 * B[:, layer].swapaxes(1, 2),
                )
        lora.attach(base.groups, pairs)
        out = base.model.hidden(tokens[rows, :-1], KV(base.model.num_layers))
        return nn.losses.cross_entropy(base.model.logits(out), tokens[rows, 1:]).mean(axis=-1)

    def loss(arrays: dict) -> mx.array:
        return losses(arrays, slice(None)).sum()

    together, gradients = mx.value_and_grad(loss)(arrays)
    alone = [float(losses(arrays, slice(row, row + 1))[0]) for row in (0, 1)]
    assert float(together) == pytest.approx(sum(alone), rel=1e-5)
    assert all(float(mx.abs(gradient).max()) > 0 for gradient in gradients.values())
