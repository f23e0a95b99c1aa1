"""A base as the encoder: which states it gives, and what carries a gradient into it."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import tiny

from paw_mlx.compiler.base_encoder import PREFIX, SpecReader, encode_spec, encoder_pairs
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import load_base

TOKENS = [5, 6, 7, 8, 9]


@pytest.fixture(params=["llama", "qwen3"])
def base(request, tmp_path):
    return load_base(tiny.write_base(tmp_path / "base", request.param), trainable=True)


def test_the_last_layer_is_the_models_own_and_the_first_is_not(base):
    own = base.model.hidden(mx.array([TOKENS]), KV(base.model.num_layers))[0]
    states = SpecReader(base, 4).states(TOKENS)
    assert states.shape == (4, 5, 64)
    np.testing.assert_allclose(states[-1], own, rtol=1e-4, atol=1e-4)
    assert mx.abs(states[0] - own).max() > 0.1


def test_an_interpreter_s_layer_learns_from_the_layer_as_deep(base):
    layers = base.model.num_layers
    own = SpecReader(base, layers).states(TOKENS)
    twice = SpecReader(base, 2 * layers).states(TOKENS)
    # The first of the pair of each depth learns from the layer above it, as the first does.
    assert np.array_equal(twice[1::2], own)
    once = SpecReader(base, 1).states(TOKENS)
    assert np.array_equal(once[0], own[-1])


def test_a_token_sees_those_before_it_alone(base):
    reader = SpecReader(base, 2)
    whole, begun = reader.states(TOKENS), reader.states(TOKENS[:3])
    np.testing.assert_allclose(whole[:, :3], begun, rtol=1e-4, atol=1e-4)
    assert mx.abs(whole[:, 4] - whole[:, 3]).max() > 0.1


def test_prefix_tokens_see_the_spec_and_are_all_that_is_returned(base):
    """Prefix tokens that are embeddings of the vocabulary are those tokens, read last."""
    reader = SpecReader(base, 2)
    prefix = base.model.model.embed_tokens(mx.array(TOKENS[3:]))
    found = reader.states(TOKENS[:3], prefix)
    np.testing.assert_allclose(found, reader.states(TOKENS)[:, 3:], rtol=1e-4, atol=1e-4)
    other = reader.states([10, 11, 12], prefix)
    assert mx.abs(other - found).max() > 0.1


def test_what_the_base_carries_changes_the_states_and_gets_a_gradient(base):
    reader, site = SpecReader(base, 2), next(base.profile.sites())
    d_in, d_out = base.profile.shapes[site.module]
    arrays = {
        f"lora.{site}.a": 0.1 * mx.random.normal((d_in, 2), key=mx.random.key(0)),
        f"lora.{site}.b": 0.1 * mx.random.normal((2, d_out), key=mx.random.key(1)),
        PREFIX: 0.1 * mx.random.normal((3, 64), key=mx.random.key(2)),
    }
    assert list(encoder_pairs(arrays, base)) == [site]
    assert encoder_pairs({PREFIX: arrays[PREFIX]}, base) == {}

    def total(arrays: dict) -> mx.array:
        lora.attach(base.groups, encoder_pairs(arrays, base))
        return reader.states(TOKENS, arrays[PREFIX]).sum()

    bare = total({PREFIX: arrays[PREFIX]})
    value, gradients = mx.value_and_grad(total)(arrays)
    assert abs(float(value) - float(bare)) > 1e-3
    assert gradients.keys() == arrays.keys()
    assert all(float(mx.abs(gradient).max()) > 0 for gradient in gradients.values())


def test_a_spec_stands_between_its_marks(base):
    tokens = encode_spec(base.tokenizer, "Say <|im_end|>.")
    assert base.tokenizer.decode(tokens) == "[SPEC]\nSay <|im_end|>.\n[END_SPEC]"
    assert not set(base.tokenizer.ids(tiny.CONTROL)) & set(tokens)
