"""Adapters inside training checkpoints, whole or in shards."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_adapters import assert_ours, named, read, refused
from torch_files import STORAGES, Opcodes, torch_save, write_index

from paw_mlx.convert import torch_adapter
from paw_mlx.errors import NotFound

# Checkpoints.


@pytest.mark.parametrize("key", [*torch_adapter.NESTED, None])
def test_checkpoint_is_read_under_its_usual_keys(tmp_path: Path, key: str | None) -> None:
    base = {"model.embed_tokens.weight": np.ones((9, 8), np.float32), "count": 7}
    extra = {name.removesuffix("Storage"): np.zeros(3, name) for name in STORAGES}
    state = {"base_model.model.model.layers.0.mlp.down_proj.base_layer.weight": np.ones((8, 6))}
    inner = {**base, **extra, **state, **named(suffix="lora_{}.default.weight")}
    checkpoint: dict[str, Any] = {
        "epoch": 3,
        "lr": 0.5,
        "name": "x",
        "flags": [True, None, (1, 2.5)],
        "model_args": {"n_layer": 2},
        "best": np.array([1.5], np.float64),
        "optimizer": {"state": {0: {"step": np.array([1.0], np.float32), "on": np.ones(2, bool)}}},
    }
    value = {**checkpoint, key: inner} if key else {**inner, "epoch": 3}
    assert_ours(read(torch_save(tmp_path / "x.ckpt", value), alpha=4.0), 4.0)


def test_what_is_not_the_adapter_is_never_read(tmp_path: Path) -> None:
    state = {"wte.weight": np.ones((9, 8), np.float32), **named()}
    path = torch_save(tmp_path / "x.pt", {"state_dict": state, "optimizer": {"m": np.ones(9)}})
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = [archive.getinfo(f"archive/data/{i}") for i in (0, len(state))]
    for member in members:  # the base's weight and the optimizer's state are damaged
        start = member.header_offset + 30 + len(member.filename)
        data = data[:start] + bytes(member.file_size) + data[start + member.file_size :]
    path.write_bytes(data)
    assert_ours(read(path, alpha=4.0), 4.0)


def test_tensors_under_two_keys_are_refused(tmp_path: Path) -> None:
    path = torch_save(tmp_path / "x.pt", {"model": named(), "state_dict": named()})
    error = refused(path)
    assert "tensors under each of 'state_dict', 'model'" in str(error)
    assert "Save one" in error.hints[0]


def test_tensors_under_another_key_are_refused_with_the_way_out(tmp_path: Path) -> None:
    error = refused(torch_save(tmp_path / "x.pt", {"epoch": 1, "net": named()}))
    assert "holds no tensors: 'epoch' is 1, 'net' is a dict of 8" in str(error)
    assert "checkpoint['net']" in error.hints[0]


def test_empty_file_says_so(tmp_path: Path) -> None:
    assert "it is empty" in str(refused(torch_save(tmp_path / "x.pt", {})))


def test_base_without_an_adapter_is_refused(tmp_path: Path) -> None:
    state = {"model.layers.0.self_attn.q_proj.weight": np.ones((8, 8), np.float32)}
    error = refused(torch_save(tmp_path / "x.pt", state))
    assert "1 tensors and no lora_A and lora_B" in str(error)
    assert "--base" in error.hints[0]


@pytest.mark.parametrize("where", ["top", "inside"])
@pytest.mark.parametrize(
    "found", ["argparse.Namespace", "my_project.config.TrainConfig", "os.system", "numpy.dtype"]
)
def test_object_in_a_checkpoint_is_refused_by_name(tmp_path: Path, found: str, where: str) -> None:
    module, name = found.rsplit(".", 1)
    marker = tmp_path / "marker"
    command = f"touch {marker}".encode()
    call = f"c{module}\n{name}\n".encode() + b"(X" + len(command).to_bytes(4, "little") + command
    value = Opcodes(call + b"tR")
    path = tmp_path / "x.pt"
    checkpoint = (
        {"args": value, "state_dict": named()}
        if where == "top"
        else {"state_dict": {"args": value, **named()}}
    )
    error = refused(torch_save(path, checkpoint))
    assert f"asks for '{found}'" in str(error)
    assert 'torch.save(checkpoint["state_dict"], path)' in error.hints[0]
    assert not marker.exists()


def test_parameters_and_sizes_are_what_they_are_made_of(tmp_path: Path) -> None:
    probe = tmp_path / "x.pt"
    stateful = b"ctorch._utils\n_rebuild_parameter_with_state\n"
    state: dict[str, Any] = {}
    for name, array in named().items():
        with zipfile.ZipFile(torch_save(probe, array)) as archive:
            tensor = archive.read("archive/data.pkl")[2:-1]
        key = f"X\x01\0\0\0{len(state)}".encode()
        tensor = tensor.replace(b"X\x01\0\0\0" + b"0", key)  # its storage's own name
        state[name] = Opcodes(stateful + b"(" + tensor + b"\x88}}tR")
    size = Opcodes(b"ctorch\nSize\n(\x8a\x01\x02\x8a\x01\x03t\x85R")
    torch_save(probe, {"state_dict": state, "shape": size})
    with zipfile.ZipFile(probe, "a") as archive:
        for i, array in enumerate(named().values()):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{i}"), array.tobytes())
    assert_ours(read(probe, alpha=4.0), 4.0)


# Shards.


def shards(folder: Path) -> dict[str, str]:
    """Two shards with A and B, and a third with nothing but the base, which is not there."""
    weight_map = {}
    for i, file in enumerate(("one.bin", "two.bin")):
        state = {name: array for name, array in named().items() if f".{i}." in name}
        torch_save(folder / file, state)
        weight_map |= dict.fromkeys(state, file)
    return weight_map | {"model.norm.weight": "three.bin"}


def test_shards_of_the_base_are_not_opened(tmp_path: Path) -> None:
    write_index(tmp_path, shards(tmp_path))
    assert torch_adapter.is_torch(tmp_path)
    assert_ours(read(tmp_path, alpha=4.0), 4.0)


def test_shard_that_is_absent_is_named(tmp_path: Path) -> None:
    write_index(tmp_path, shards(tmp_path))
    (tmp_path / "two.bin").unlink()
    assert "two.bin" in str(refused(tmp_path, NotFound))


def test_tensor_that_is_not_in_its_shard_is_named(tmp_path: Path) -> None:
    weight_map = shards(tmp_path)
    write_index(tmp_path, dict.fromkeys(weight_map, "one.bin"))
    assert "5 tensors are not in the shards" in str(refused(tmp_path))


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        ({}, "no weight_map"),
        (["x"], "no weight_map"),
        ({"a.lora_A.weight": "../one.bin"}, "'../one.bin', which is no file beside it"),
        ({"a.lora_A.weight": "/etc/passwd"}, "'/etc/passwd', which is no file beside it"),
        ({"a.lora_A.weight": ".."}, "'..', which is no file beside it"),
        ({"a.lora_A.weight": ""}, "'', which is no file beside it"),
        ({"a.lora_A.weight": "a\0b"}, "which is no file beside it"),
        ({"a.lora_A.weight": 7}, "7, which is no file beside it"),
        ({"a.weight": "one.bin"}, "1 tensors and no lora_A and lora_B"),
        ({f"{i}.lora_A.weight": f"{i}.bin" for i in range(129)}, "129 shards"),
    ],
)
def test_index_that_cannot_be_trusted_is_refused(
    tmp_path: Path, weight_map: Any, said: str
) -> None:
    assert said in str(refused(write_index(tmp_path, weight_map)))


def test_two_indexes_in_a_folder_are_refused(tmp_path: Path) -> None:
    write_index(tmp_path, shards(tmp_path)).with_name("other.bin.index.json").write_text("{}")
    assert "2 indexes" in str(refused(tmp_path))
    assert_ours(read(tmp_path / "pytorch_model.bin.index.json", alpha=4.0), 4.0)
