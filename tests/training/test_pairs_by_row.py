"""A batch in which every row has a LoRA of its own: as if each were alone, gradients too."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import tiny

from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import load_base

TOKENS = mx.array([[5, 6, 7], [8, 9, 10]])


@pytest.fixture(params=tiny.FAMILIES)
def base(request, tmp_path):
    return load_base(tiny.write_base(tmp_path / "base", request.param))


def logits(base, tokens: mx.array, pairs: dict) -> mx.array:
    """The logits (B, T, V) of rows with these pairs attached."""
    lora.attach(base.groups, pairs)
    return base.model.logits(base.model.hidden(tokens, KV(base.model.num_layers)))


def rows(base) -> list[dict]:
    """Two different adapters."""
    return [lora.pairs(tiny.adapter(base.profile, seed), base.dtype) for seed in (0, 1)]


def stacked(one: dict, other: dict) -> dict:
    """A (B, d_in, r) and B (B, r, d_out) of every site, a row of the batch for each adapter."""
    return {
        site: tuple(mx.stack(halves) for halves in zip(pair, other[site], strict=True))
        for site, pair in one.items()
    }


def test_each_row_is_computed_with_its_own_pair(base):
    one, other = rows(base)
    both = logits(base, TOKENS, stacked(one, other))
    for row, pairs in enumerate((one, other)):
        alone = logits(base, TOKENS[row : row + 1], pairs)
        np.testing.assert_allclose(both[row], alone[0], rtol=1e-4, atol=1e-4)
        swapped = logits(base, TOKENS[1 - row : 2 - row], pairs)
        assert mx.abs(both[1 - row] - swapped[0]).max() > 0.1  # the pairs differ


def test_some_sites_may_be_by_row_and_others_shared(base):
    one, other = rows(base)
    module = next(iter(one)).module
    shared = {site: pair for site, pair in one.items() if site.module != module}
    own = {site: pair for site, pair in stacked(one, other).items() if site.module == module}
    both = logits(base, TOKENS, shared | own)
    for row, pairs in enumerate((one, other)):
        mixed = shared | {site: pair for site, pair in pairs.items() if site.module == module}
        alone = logits(base, TOKENS[row : row + 1], mixed)
        np.testing.assert_allclose(both[row], alone[0], rtol=1e-4, atol=1e-4)


def test_gradients_of_a_row_are_those_of_the_row_alone(base):
    one, other = rows(base)

    def loss(parameters: dict, tokens: mx.array) -> mx.array:
        pairs = {site: tuple(parameters[str(site)]) for site in one}
        return logits(base, tokens, pairs).square().mean(axis=(1, 2)).sum()

    def tree(pairs: dict) -> dict:
        return {str(site): list(pair) for site, pair in pairs.items()}

    together = mx.grad(loss)(tree(stacked(one, other)), TOKENS)
    for row, pairs in enumerate((one, other)):
        alone = mx.grad(loss)(tree(pairs), TOKENS[row : row + 1])
        for site, halves in alone.items():
            for half, expected in zip(together[site], halves, strict=True):
                scale = float(mx.abs(expected).max())
                assert scale > 0
                np.testing.assert_allclose(half[row], expected, atol=1e-4 * scale)
