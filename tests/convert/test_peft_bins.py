"""PEFT folders with a `.bin`: more than a plain LoRA is refused, with a way out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_adapters import assert_ours, named, read, refused, save_config
from torch_files import torch_save, write_index

from paw_mlx.errors import AdapterMismatch
from paw_mlx.formats.peft_refusals import REFUSED, REFUSED_TENSORS, REFUSED_TYPES


@pytest.mark.parametrize("key", REFUSED)
def test_more_than_a_plain_lora_is_refused_with_reason_and_remedy(tmp_path: Path, key: str) -> None:
    torch_save(tmp_path / "adapter_model.bin", named())
    save_config(tmp_path, **{key: ["x"]})
    error = refused(tmp_path)
    assert str(error).startswith(f"{key} ['x'] is not supported: ")
    assert REFUSED[key].reason in str(error)
    assert error.hints == [REFUSED[key].remedy]


@pytest.mark.parametrize("kind", [*REFUSED_TYPES, "ia3", "NEXT_YEARS", None, ["LORA"]])
def test_other_peft_types_are_refused_with_reason_and_remedy(tmp_path: Path, kind: Any) -> None:
    torch_save(tmp_path / "adapter_model.bin", {"prompt_embeddings": np.ones((2, 2), np.float32)})
    save_config(tmp_path, peft_type=kind)
    error = refused(tmp_path)
    assert str(error).startswith(f"peft_type is {kind!r}: ")
    assert error.hints


@pytest.mark.parametrize("pattern", REFUSED_TENSORS)
@pytest.mark.parametrize("place", ["PEFT folder", "checkpoint", "shards"])
def test_tensors_of_more_than_a_plain_lora_are_refused(
    tmp_path: Path, pattern: str, place: str
) -> None:
    name = "base_model.model.model.embed" + pattern.removeprefix("*")
    for glob, text in (("[AB]", "A"), (".*.", ".default."), ("*", "x.weight")):
        name = name.replace(glob, text)
    state = {name: np.ones((2, 2), np.float32), **named()}
    path = tmp_path / "adapter_model.bin"
    if place == "PEFT folder":
        save_config(tmp_path)
        torch_save(path, state)
    elif place == "checkpoint":
        torch_save(path, {"state_dict": state})
    else:
        torch_save(tmp_path / "a", named())
        path = write_index(tmp_path, {n: "a" if n in named() else "b" for n in state})
    error = refused(path)
    assert f"1 tensors are not supported, such as {name!r}" in str(error)
    assert error.hints == [REFUSED_TENSORS[pattern].remedy]


def test_whole_weights_in_a_peft_file_are_refused_and_in_a_checkpoint_ignored(
    tmp_path: Path,
) -> None:
    save_config(tmp_path)
    state = {"base_model.model.lm_head.weight": np.ones((9, 8), np.float32), **named()}
    error = refused(torch_save(tmp_path / "adapter_model.bin", state))
    assert "1 tensors are whole weights of the base" in str(error)
    assert "'base_model.model.lm_head.weight'" in str(error)
    assert "save_embedding_layers=False" in error.hints[0]
    assert_ours(read(torch_save(tmp_path / "pytorch_model.bin", state)), 4.0)


UP = "model.layers.1.mlp.up_proj"


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"target_modules": "ALL-linear"}, "10 sites should be there"),
        ({"target_modules": "all-linear", "exclude_modules": ["mlp.gate_proj"]}, "8 sites"),
        ({"target_modules": ["v_proj"]}, "2 sites should be there, and have no tensors: 0.v_proj"),
        ({"target_modules": ["v_proj"], "layers_to_transform": 1}, "1 sites .*: 1.v_proj"),
        ({"target_modules": ["v_proj"], "layers_to_transform": [0, 7]}, "1 sites .*: 0.v_proj"),
        ({"target_modules": [UP, "q_proj"], "layers_to_transform": [0]}, "1 sites .*: 1.up_proj"),
        ({"target_modules": r".*\.v_proj", "layers_to_transform": [0]}, "2 sites .*: 0.v_proj"),
        ({"target_modules": ["v_proj"], "layers_to_transform": 1, "layers_pattern": "h"}, None),
        (
            {"target_modules": ["v_proj"], "layers_to_transform": 1, "layers_pattern": ["layers"]},
            "1 sites .*: 1.v_proj",
        ),
        ({"target_modules": ["v_proj"], "exclude_modules": r".*layers\.0.*"}, "1 sites .*: 1.v_p"),
    ],
)
def test_sites_that_the_config_declares_are_missed(
    tmp_path: Path, options: dict[str, Any], missing: str | None
) -> None:
    torch_save(tmp_path / "adapter_model.bin", named())
    save_config(tmp_path, **options)
    if missing is None:
        assert_ours(read(tmp_path), 4.0)
    else:
        assert re.search(missing, str(refused(tmp_path, AdapterMismatch)))


@pytest.mark.parametrize("pattern", [7, ["layers", 7], {"layers": 1}, "(a+)+", "(("])
def test_layers_pattern_that_cannot_be_trusted_is_refused(tmp_path: Path, pattern: Any) -> None:
    torch_save(tmp_path / "adapter_model.bin", named())
    save_config(tmp_path, layers_to_transform=[0], layers_pattern=pattern)
    assert "layers_pattern" in str(refused(tmp_path))
