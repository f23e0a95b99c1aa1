"""Published compilers with a fault: one sentence, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import tiny
from torch_files import torch_save
from upstreams import META, mapper, save, write_upstream

from paw_mlx import DiskError, FormatError, NotFound, OptionError, PawError
from paw_mlx.convert.checkpoint import convert_compiler

PACKED = "model.layers.1.mlp.up_proj"


def changed(source: Path, **tensors: Any) -> None:
    """Replace tensors of the encoder, by name with `__` for a dot; None removes."""
    found = dict(mx.load(str(source / "compiler" / "model.safetensors")))
    found |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    found = {name: tensor for name, tensor in found.items() if tensor is not None}
    mx.eval(found)
    save(source / "compiler", found)


def config(source: Path, **changes: Any) -> None:
    path = source / "compiler" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def meta(source: Path, **changes: Any) -> None:
    values = {key: value for key, value in (META | changes).items() if value is not ...}
    (source / "meta.json").write_text(json.dumps(values))


NORM = "model__norm__weight"
FAULTS: list[tuple[Any, type[PawError], str]] = [
    (lambda s: shutil.rmtree(s), NotFound, "is no folder"),
    (lambda s: (s / "meta.json").unlink(), NotFound, r"it has no meta\.json"),
    (lambda s: (s / "lora_mapper.pt").unlink(), NotFound, r"it has no lora_mapper\.pt"),
    (lambda s: (s / "compiler/tokenizer.json").unlink(), NotFound, r"no compiler/tokenizer\.json"),
    (lambda s: (s / "compiler/config.json").write_text("{"), FormatError, "JSON"),
    (lambda s: (s / "lora_mapper.pt").write_bytes(b"PK"), FormatError, r"lora_mapper\.pt"),
    (lambda s: (s / "compiler/model.safetensors").unlink(), FormatError, "35 tensors do not fit"),
    (lambda s: meta(s, lora_rank=...), FormatError, "lora_rank"),
    (lambda s: meta(s, lora_num_bases=0), FormatError, "lora_num_bases as 0"),
    (lambda s: meta(s, lora_alpha="16"), FormatError, "lora_alpha"),
    (lambda s: meta(s, prefix_steps=True), FormatError, "prefix_steps as True"),
    (lambda s: meta(s, compiler_prompt_style="verbose"), FormatError, "'verbose'"),
    (lambda s: meta(s, lora_rank=8), FormatError, r"\(2, 4, 32\), not \(2, 8, 32\)"),
    (lambda s: torch_save(s / "lora_mapper.pt", mapper(32)), FormatError, "takes 32.* gives 64"),
    (lambda s: config(s, model_type="mamba"), FormatError, "'mamba' is not supported"),
    (
        lambda s: (s / "compiler/config.json").write_text(json.dumps(tiny.config("gpt2"))),
        FormatError,
        "a gpt2 model cannot be the encoder",
    ),
    (lambda s: config(s, rms_norm_eps=None), FormatError, "config is malformed"),
    (lambda s: config(s, hidden_size=None), FormatError, "hidden_size"),
    (lambda s: config(s, rope_scaling={"type": "yarn"}), FormatError, "rope scaling"),
    (lambda s: config(s, num_hidden_layers=4), FormatError, r"11 tensors .* and 6 more"),
    (lambda s: config(s, num_hidden_layers=2), FormatError, "11 tensors .* is unknown"),
    (
        lambda s: changed(s, **{NORM: None}),
        FormatError,
        r"^1 tensor does not fit in the encoder: model\.norm\.weight is missing",
    ),
    (lambda s: changed(s, **{NORM: mx.zeros(32)}), FormatError, r"is \(32,\), not \(64,\)"),
    (lambda s: changed(s, **{NORM: mx.zeros(64, mx.int32)}), FormatError, "'I32', no float"),
    (lambda s: changed(s, q=mx.zeros(1)), FormatError, "'q' is unknown"),
    (
        lambda s: shutil.copy(s / "compiler/model.safetensors", s / "compiler/two.safetensors"),
        FormatError,
        r"is in model\.safetensors and in two\.safetensors",
    ),
]


@pytest.mark.parametrize(("fault", "kind", "match"), FAULTS)
def test_a_faulty_compiler_is_one_sentence_and_leaves_nothing(source, tmp_path, fault, kind, match):
    fault(source)
    with pytest.raises(kind, match=match) as caught:
        convert_compiler(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"paw-tiny"}


def test_a_truncated_encoder_gives_one_sentence(source, tmp_path):
    path = source / "compiler" / "model.safetensors"
    whole = path.read_bytes()
    for cut in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError):
            convert_compiler(source, tmp_path / "out")
        assert [p.name for p in tmp_path.iterdir()] == ["paw-tiny"]


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", [f"{PACKED}.weight", "model.embed_tokens.weight"])
def test_what_is_not_finite_is_never_written(source, tmp_path, bits, value, name):
    tensor = mx.load(str(source / "compiler" / "model.safetensors"))[name]
    tensor[5, 7] = value
    changed(source, **{name: tensor})
    with pytest.raises(FormatError, match=f"the encoder's {name} holds values that are not finite"):
        convert_compiler(source, tmp_path / "out", bits=bits)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.partial", "paw-tiny"]
    file = f"model-0000{2 if name.startswith(PACKED) else 0}-of-00003.safetensors"
    assert not (tmp_path / ".out.partial" / "compiler" / file).exists()


def test_options_that_cannot_be_are_refused(tmp_path):
    source = write_upstream(tmp_path / "source", intermediate_size=96)
    with pytest.raises(OptionError, match="not 5"):
        convert_compiler(source, tmp_path / "out", bits=5)
    with pytest.raises(OptionError, match=r"groups of 64 .*down_proj\.weight is 96 wide"):
        convert_compiler(source, tmp_path / "out", bits=4)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert convert_compiler(source, tmp_path / "out", bits=16)  # the way out that the hint names


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_place_is_one_sentence(source, tmp_path):
    place = tmp_path / "place"
    place.mkdir(mode=0o500)
    with pytest.raises(DiskError, match="cannot write"):
        convert_compiler(source, place / "out")


def test_a_place_under_a_file_is_one_sentence(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot write"):
        convert_compiler(source, tmp_path / "file" / "out")
