"""Converted bases in mlx-lm: it loads them, scores as we do, and tokenizes alike."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import tiny
from tiny_gguf import CHAT_TEMPLATE, write_gguf

from paw_mlx.convert.base import convert_base
from paw_mlx.interpreter.base.read import read_source
from paw_mlx.interpreter.models.load import load_base

pytestmark = pytest.mark.filterwarnings("ignore")
mlx_lm = pytest.importorskip("mlx_lm.utils")

TEXT = "I'll say 'the disk' is 98% full…\n\n  Größe 12345 日本 <|im_end|>\tthe server"
KINDS = {"packed": ["Q4_1", "Q8_0"], "mixed": ["Q4_0", "F16", "Q8_0"], "decoded": ["Q5_0", "F32"]}


@pytest.fixture(params=["folder", *KINDS])
def source(request: pytest.FixtureRequest, tmp_path: Path, family: str) -> Path:
    folder = tiny.write_base(tmp_path / "base", family)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    if request.param == "folder":
        return folder
    write_gguf(tmp_path / "base.gguf", folder, family, KINDS[request.param])
    return tmp_path / "base.gguf"


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("bits", [None, 4, 6, 8, 16, 32])
def test_mlx_lm_loads_it_and_scores_alike(source, tmp_path, family, bits):
    out = convert_base(source, tmp_path / "out", bits=bits, group_size=32)
    model, tokenizer = mlx_lm.load(str(out))
    model.set_dtype(mx.float32)
    base = load_base(out)
    tokens = base.tokenizer.encode(TEXT, control=True)
    ours, theirs = tiny.scores(base, tokens), np.array(model(mx.array([tokens]))[0])
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.ptp(theirs) > 1  # not a model that says one thing to everything
    assert tokenizer.encode(TEXT, add_special_tokens=False) == tokens
    assert tokenizer.decode(tokens, skip_special_tokens=True) == base.tokenizer.decode(tokens)
    turn = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert turn == "<|im_start|>user\nhi<|im_end|>\n"
    assert tokenizer.eos_token_ids == base.eos - set(base.tokenizer.ids(base.profile.eos)) | {
        *read_source(out).eos_ids
    }


def test_a_rotary_base_that_only_new_configs_say_reaches_mlx_lm(tmp_path):
    """mlx-lm's llama takes 10,000 where it finds no rope_theta at the top."""
    folder = tiny.write_base(tmp_path / "base", "llama")
    rope = {"rope_type": "default", "rope_theta": 500.0}
    text = tiny.changed("llama", rope_parameters=rope).replace('"rope_theta": 10000.0, ', "", 1)
    (folder / "config.json").write_text(text)
    out = convert_base(folder, tmp_path / "out")
    model, _ = mlx_lm.load(str(out))
    tokens = list(range(40, 90))
    ours, theirs = tiny.scores(load_base(folder), tokens), model(mx.array([tokens]))[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
