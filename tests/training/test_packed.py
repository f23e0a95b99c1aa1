"""Functions packed into a batch: every case as if it stood alone behind its prompt."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import tiny

from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import load_base
from paw_mlx.training.packed import Packed, PackedCache, pack

FUNCTIONS = [
    ([5, 6, 7, 8], [([9, 10], [11, 3]), ([12], [13]), ([14, 15, 16], [17, 18, 19, 3])]),
    ([20, 21], [([22, 23, 24, 25], [26]), ([9, 10], [11, 3])]),
]


@pytest.fixture(params=tiny.FAMILIES)
def base(request, tmp_path):
    return load_base(tiny.write_base(tmp_path / "base", request.param))


def packed_losses(base, packed: Packed, pairs: dict) -> np.ndarray:
    """Each target's loss, as a step computes it."""
    lora.attach(base.groups, pairs)
    hidden = base.model.hidden(packed.tokens, PackedCache(packed, base.model.num_layers))
    logits = base.model.logits(hidden[packed.rows, packed.places])
    return np.array(nn.losses.cross_entropy(logits, packed.targets))


def losses_alone(base, pairs_of_rows: list[dict]) -> np.ndarray:
    """The definition: a row for each case, prompt and all, nothing padded or shared."""
    found = []
    for (prompt, cases), pairs in zip(FUNCTIONS, pairs_of_rows, strict=True):
        lora.attach(base.groups, pairs)
        for text, output in cases:
            tokens = mx.array([[*prompt, *text, *output[:-1]]])
            hidden = base.model.hidden(tokens, KV(base.model.num_layers))
            logits = base.model.logits(hidden)[0, len(prompt) + len(text) - 1 :]
            found += nn.losses.cross_entropy(logits, mx.array(output)).tolist()
    return np.array(found)


def adapters(base) -> list[dict]:
    """Two that differ."""
    return [lora.pairs(tiny.adapter(base.profile, seed), base.dtype) for seed in (0, 1)]


def by_row(base) -> dict:
    """The two in one, a row of the batch for each."""
    one, other = adapters(base)
    return {site: tuple(map(mx.stack, zip(one[site], other[site], strict=True))) for site in one}


def test_losses_are_those_of_each_case_alone(base):
    found = packed_losses(base, pack(FUNCTIONS), {})
    np.testing.assert_allclose(found, losses_alone(base, [{}, {}]), rtol=1e-4, atol=1e-4)


def test_each_function_has_its_own_lora(base):
    found = packed_losses(base, pack(FUNCTIONS), by_row(base))
    np.testing.assert_allclose(found, losses_alone(base, adapters(base)), rtol=1e-4, atol=1e-4)
    bare = losses_alone(base, [{}, {}])
    assert np.abs(found - bare).min() > 1e-3  # it does something to every target


@pytest.mark.parametrize("broken", ["mask", "positions", "places"])
def test_a_batch_laid_out_otherwise_gives_other_losses(base, broken):
    """That cases were apart anyway is no reason for the tests above to pass."""
    packed, right = pack(FUNCTIONS), losses_alone(base, [{}, {}])
    rows, width = packed.tokens.shape
    changed = {
        "mask": mx.broadcast_to(mx.tri(width, dtype=mx.bool_), (rows, 1, width, width)),
        "positions": mx.broadcast_to(mx.arange(width), (rows, width)),
        "places": packed.places + 1,
    }
    found = packed_losses(base, packed._replace(**{broken: changed[broken]}), {})
    firsts = [0, 1, 8, 9] if broken == "places" else [2, 3, 8]  # targets behind an earlier case
    assert np.abs(found - right)[firsts].max() > 0.05


def test_an_output_of_four_tokens_weighs_two_of_one():
    packed = pack(FUNCTIONS)
    each = np.split(np.array(packed.weights), np.cumsum([2, 1, 4, 1]))
    assert sum(part.sum() for part in each) == pytest.approx(1)
    assert all(part.std() < 1e-7 for part in each)
    sums = np.array([part.sum() for part in each])
    np.testing.assert_allclose(sums / sums[1], np.sqrt([2, 1, 4, 1, 2]), rtol=1e-5)
    assert packed.targets.tolist() == [11, 3, 13, 17, 18, 19, 3, 26, 11, 3]
