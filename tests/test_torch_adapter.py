"""Adapters in torch's files: read right, or refused in one sentence, without torch."""

from __future__ import annotations

import json
import random
import re
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_files import STORAGES, Opcodes, torch_save, write_index

from paw_mlx import formats
from paw_mlx.adapter import Adapter, Site
from paw_mlx.convert import torch_adapter
from paw_mlx.errors import (
    AdapterMismatch,
    FormatError,
    NotFound,
    OptionError,
    PawError,
    UnknownLayout,
)
from paw_mlx.formats import peft
from paw_mlx.profiles import PROFILES

GOLDEN = Path(__file__).parent / "golden"
ADAPTERS = GOLDEN / "torch" / "adapters"
GOLDENS = {"peft": None, "bare.pt": 12.0, "checkpoint.pt": 12.0, "sharded": 12.0}
RANK = 2
SITES = [Site(i, module) for i in (0, 1) for module in ("q_proj", "down_proj")]
PATHS = {"q_proj": "self_attn.q_proj", "down_proj": "mlp.down_proj"}

Arrays = dict[str, np.ndarray]


def arrays() -> dict[tuple[Site, str], np.ndarray]:
    """A and B of every site; all differ."""
    rng, made = np.random.default_rng(3), {}
    for site in SITES:
        made[site, "A"] = rng.normal(size=(RANK, 8)).astype(np.float32)
        made[site, "B"] = rng.normal(size=(6, RANK)).astype(np.float32)
    return made


def named(prefix: str = "base_model.model.model.", suffix: str = "lora_{}.weight") -> Arrays:
    """The state dict of such an adapter."""
    return {
        f"{prefix}layers.{site.layer}.{PATHS[site.module]}.{suffix.format(half)}": array
        for (site, half), array in arrays().items()
    }


def assert_ours(adapter: Adapter, alpha: float) -> None:
    """Assert that an adapter is the one of `arrays`, bit for bit."""
    assert sorted(adapter.sites) == sorted(SITES)
    assert adapter.alphas == (alpha,)
    for (site, half), array in arrays().items():
        np.testing.assert_array_equal(getattr(adapter.sites[site], half).dense(), array)


def read(path: Path, **options: Any) -> Adapter:
    return torch_adapter.read(path, None, **options).adapter


def refused(path: Path, error: type[PawError] = FormatError, **options: Any) -> PawError:
    """The one sentence with which a path is refused."""
    with pytest.raises(error) as caught:
        read(path, **{"alpha": 4.0, **options})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return caught.value


# What torch and peft wrote is read.


@pytest.mark.parametrize("name", GOLDENS)
def test_adapter_adds_to_every_weight_what_peft_says(name: str) -> None:
    assert torch_adapter.is_torch(ADAPTERS / name)
    found = torch_adapter.read(ADAPTERS / name, None, alpha=GOLDENS[name])
    assert found.interpreter == ("tiny" if name == "peft" else "")
    assert found.adapter.dtypes == (("bf16",) if name == "bare.pt" else ("f32",))
    with np.load(ADAPTERS / "deltas.npz") as deltas:
        assert len(found.adapter.sites) == len(deltas.files) == 6
        for path in deltas.files:
            _, _, layer, _, module = path.split(".")
            delta = found.adapter.delta(Site(int(layer), module))
            np.testing.assert_allclose(delta, deltas[path], rtol=1e-6, atol=1e-7)


def test_peft_file_is_read_with_the_config_beside_it() -> None:
    adapter = read(ADAPTERS / "peft" / "adapter_model.bin")
    assert adapter.alphas == (12.0,)


def test_index_is_read_as_its_folder() -> None:
    index = ADAPTERS / "sharded" / "pytorch_model.bin.index.json"
    assert torch_adapter.is_torch(index)
    assert len(read(index, alpha=12.0).sites) == 6


def test_only_what_this_reads_is_torch(tmp_path: Path) -> None:
    for name in ("program.paw", "adapter-f16.gguf", "peft", "program", "legacy.paw", "absent"):
        assert not torch_adapter.is_torch(GOLDEN / name), name
    (tmp_path / "legacy.pt").write_bytes(
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02"
    )
    assert torch_adapter.is_torch(tmp_path / "legacy.pt")
    assert "legacy format" in str(refused(tmp_path / "legacy.pt"))


def test_torchscript_is_refused_by_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name in ("code/__torch__/linear.py", "data.pkl", "byteorder"):
            archive.writestr(f"x/{name}", b"")
    assert torch_adapter.is_torch(tmp_path / "x.pt")
    assert "TorchScript archive, with code in it" in str(refused(tmp_path / "x.pt"))


def test_safetensors_win_over_a_bin_beside_them(tmp_path: Path) -> None:
    shutil.copytree(ADAPTERS / "peft", tmp_path / "a")
    assert torch_adapter.is_torch(tmp_path / "a")
    shutil.copy(GOLDEN / "peft" / "adapter_model.safetensors", tmp_path / "a")
    assert not torch_adapter.is_torch(tmp_path / "a")


def test_peft_reader_sends_a_bin_to_convert(tmp_path: Path) -> None:
    shutil.copytree(ADAPTERS / "peft", tmp_path / "a")
    with pytest.raises(FormatError, match=r"has no adapter_model\.safetensors") as caught:
        peft.read(tmp_path / "a", None)
    assert "paw-mlx convert" in caught.value.hints[0]


# Names.

PREFIXES = [
    "base_model.model.model.",
    "base_model.model.base_model.model.model.",
    "base_model.model.",
    "base_model.",
    "model.",
    "",
    "module.model.",
    "module.base_model.model.model.",
    "_orig_mod.base_model.model.model.",
    "base_model.model._orig_mod.model.",
    "base_model.model.model._orig_mod.",
    "module._orig_mod.module.base_model.model.model.",
    "_orig_mod.module.model.",
    "model.base_model.model.model.",
    "model.module._orig_mod.model.",
    "_fsdp_wrapped_module.base_model.model.model.",
    "net.base_model.model.model.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("with_config", [False, True], ids=["bare", "with a config"])
def test_prefixes_are_seen_through(tmp_path: Path, prefix: str, with_config: bool) -> None:
    torch_save(tmp_path / "adapter_model.bin", named(prefix))
    if with_config:
        save_config(tmp_path)
    assert_ours(read(tmp_path / "adapter_model.bin", alpha=4.0), 4.0)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_safetensors_may_have_the_same_names(tmp_path: Path, prefix: str) -> None:
    save_config(tmp_path)
    state = named(prefix, "lora_{}.default.weight")
    save_file(state, tmp_path / "adapter_model.safetensors")
    assert_ours(formats.load_adapter(tmp_path), 4.0)


@pytest.mark.parametrize(
    "suffix",
    ["lora_{}.weight", "lora_{}.default.weight", "lora_{}.my-task.weight", "lora_{}", "lower"],
)
def test_suffixes_are_seen_through(tmp_path: Path, suffix: str) -> None:
    state = named(suffix="lora_{}" if suffix == "lower" else suffix)
    if suffix == "lower":
        state = {
            n.replace("lora_A", "lora_a").replace("lora_B", "lora_b"): a for n, a in state.items()
        }
    assert_ours(read(torch_save(tmp_path / "x.pth", state), alpha=0.5), 0.5)


def test_wrappers_inside_a_layer_are_seen_through(tmp_path: Path) -> None:
    state = {
        name.replace(".mlp.", "._checkpoint_wrapped_module.mlp._orig_mod."): array
        for name, array in named().items()
    }
    assert_ours(read(torch_save(tmp_path / "x.pt", state), alpha=1.0), 1.0)


def test_gpt2_is_known_by_its_names(tmp_path: Path) -> None:
    state = {}
    for prefix in ("base_model.model.transformer.", "transformer.", ""):
        for half, shape in (("A", (RANK, 8)), ("B", (6, RANK))):
            name = f"{prefix}h.1.attn.c_attn.lora_{half}.default.weight"
            state[name] = np.ones(shape, np.float32)
        assert list(read(torch_save(tmp_path / "x.pt", state), alpha=1.0).sites) == [
            Site(1, "c_attn")
        ]
        state = {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.norm.lora_A.weight": 0}, "1 tensors are no A or B of a linear module"),
        ({"layers.0.attn.q_proj.lora_a.weight": 0}, "'layers.0.attn.q_proj.lora_a.weight'"),
        ({"model.layers.0.self_attn.v_proj.lora_A.weight": 0}, "0.v_proj has no B"),
        (
            {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": None},
            "q_proj has no A",
        ),
        ({"module.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": 0}, "1 tensors"),
        ({"model.layers.0.self_attn.v_proj.lora_A.other.weight": 0}, "2 adapters are in one file"),
    ],
)
def test_names_that_do_not_fit_are_listed(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    state: dict[str, Any] = named()
    for name, value in change.items():
        state[name] = np.ones((RANK, 8), np.float32)
        if value is None:
            del state[name]
    assert said in str(refused(torch_save(tmp_path / "x.pt", state), AdapterMismatch))


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


# Rank and alpha.


def test_alpha_is_never_guessed(tmp_path: Path) -> None:
    path = torch_save(tmp_path / "x.pt", named())
    with pytest.raises(OptionError, match="give --alpha"):
        read(path)
    with pytest.raises(OptionError, match="give --alpha"):
        read(path, rank=RANK)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_alpha_is_a_positive_number(tmp_path: Path, alpha: float) -> None:
    error = refused(torch_save(tmp_path / "x.pt", named()), OptionError, alpha=alpha)
    assert "--alpha is" in str(error)


def test_rank_that_the_tensors_contradict_is_refused(tmp_path: Path) -> None:
    path = torch_save(tmp_path / "x.pt", named())
    assert_ours(read(path, rank=RANK, alpha=4.0), 4.0)
    error = refused(path, OptionError, rank=8)
    assert "--rank is 8, and A and B have another at 4 sites: 0.down_proj: 2" in str(error)


def test_alpha_that_the_config_contradicts_is_refused(tmp_path: Path) -> None:
    torch_save(tmp_path / "adapter_model.bin", named())
    save_config(tmp_path)
    assert_ours(read(tmp_path, alpha=4.0), 4.0)
    error = refused(tmp_path, OptionError, alpha=16.0)
    assert "--alpha is 16, and adapter_config.json gives another to 4 sites" in str(error)


def test_ranks_may_differ_and_layers_may_be_left_out(tmp_path: Path) -> None:
    state = {name: array for name, array in named().items() if ".0.mlp" not in name}
    state["model.layers.9.mlp.up_proj.lora_A"] = np.ones((1, 8), np.float32)
    state["model.layers.9.mlp.up_proj.lora_B"] = np.ones((6, 1), np.float32)
    state = {name.removeprefix("base_model.model."): array for name, array in state.items()}
    adapter = read(torch_save(tmp_path / "x.pt", state), alpha=2.0)
    assert adapter.ranks == (1, 2)
    assert adapter.sites[Site(9, "up_proj")].scale == 2.0
    np.testing.assert_array_equal(adapter.delta(Site(9, "up_proj")), np.full((6, 8), 2.0))
    assert Site(0, "down_proj") not in adapter.sites


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (((8, RANK), (RANK, 6)), "1 sites have a rank greater than their module: 0.q_proj"),
        (((8, RANK), (RANK, 8)), "1 sites have a rank greater than their module: 0.q_proj"),
        (((RANK, 8), (6, 3)), "the ranks of A and B differ at 1 sites: 0.q_proj"),
        (((RANK, 8), (6, RANK, 1)), "of shape (6, 2, 1), not a matrix"),
        (((0,), (6, RANK)), "is empty, of shape (0,)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    tmp_path: Path, shapes: tuple[tuple[int, ...], ...], said: str
) -> None:
    state = {
        f"model.layers.0.self_attn.q_proj.lora_{half}": np.ones(shape, np.float32)
        for half, shape in zip("AB", shapes, strict=True)
    }
    assert said in str(refused(torch_save(tmp_path / "x.pt", state)))


def test_adapter_is_checked_against_the_base(tmp_path: Path) -> None:
    path = torch_save(tmp_path / "x.pt", named())
    with pytest.raises(AdapterMismatch, match=r"another \(d_in, d_out\) than qwen3-0.6b"):
        torch_adapter.read(path, PROFILES["qwen3-0.6b"], alpha=4.0)
    torch_save(tmp_path / "adapter_model.bin", named())
    save_config(tmp_path, base_model_name_or_path="HuggingFaceTB/SmolLM2-135M-Instruct")
    with pytest.raises(AdapterMismatch, match=r"smollm2-135m|should be there"):
        read(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = named()
    next(iter(state.values()))[0, 0] = value
    assert "1 sites hold NaN" in str(refused(torch_save(tmp_path / "x.pt", state)))


@pytest.mark.parametrize("dtype", ["float64", "int64", "int8", "bool"])
def test_other_dtypes_of_a_and_b_are_refused_unread(tmp_path: Path, dtype: str) -> None:
    state = {name: array.astype(dtype) for name, array in named().items()}
    assert "not a matrix of F32, F16 or BF16" in str(refused(torch_save(tmp_path / "x.pt", state)))


def test_half_precision_stays_as_it_is_stored(tmp_path: Path) -> None:
    state = {name: array.astype(np.float16) for name, array in named().items()}
    assert read(torch_save(tmp_path / "x.pt", state), alpha=1.0).dtypes == ("f16",)


# PEFT folders with a .bin.


def save_config(folder: Path, **change: Any) -> None:
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "down_proj"],
        "base_model_name_or_path": None,
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))


@pytest.mark.parametrize("key", peft.REFUSED)
def test_more_than_a_plain_lora_is_refused_with_reason_and_remedy(tmp_path: Path, key: str) -> None:
    torch_save(tmp_path / "adapter_model.bin", named())
    save_config(tmp_path, **{key: ["x"]})
    error = refused(tmp_path)
    assert str(error).startswith(f"{key} ['x'] is not supported: ")
    assert peft.REFUSED[key].reason in str(error)
    assert error.hints == [peft.REFUSED[key].remedy]


@pytest.mark.parametrize("kind", [*peft.REFUSED_TYPES, "ia3", "NEXT_YEARS", None, ["LORA"]])
def test_other_peft_types_are_refused_with_reason_and_remedy(tmp_path: Path, kind: Any) -> None:
    torch_save(tmp_path / "adapter_model.bin", {"prompt_embeddings": np.ones((2, 2), np.float32)})
    save_config(tmp_path, peft_type=kind)
    error = refused(tmp_path)
    assert str(error).startswith(f"peft_type is {kind!r}: ")
    assert error.hints


@pytest.mark.parametrize("pattern", peft.REFUSED_TENSORS)
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
    assert error.hints == [peft.REFUSED_TENSORS[pattern].remedy]


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


def test_folder_of_adapters_names_them(tmp_path: Path) -> None:
    for name in ("polite", "brief"):
        (tmp_path / name).mkdir()
        save_config(tmp_path / name)
        torch_save(tmp_path / name / "adapter_model.bin", named())
    assert not torch_adapter.is_torch(tmp_path)
    with pytest.raises(UnknownLayout, match="folders of their own: 'brief', 'polite'") as caught:
        peft.read(tmp_path, None)
    assert str(tmp_path / "brief") in caught.value.hints[0]
    assert_ours(read(tmp_path / "polite"), 4.0)


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


# Damage.


def outcome(path: Path, expected: Adapter) -> str:
    """What became of a damaged file: "refused", or "same" if it holds what it held."""
    said = ""
    try:
        found = read(path, alpha=None if path.is_dir() else 12.0)
    except PawError as error:
        said = str(error)
    if said:
        assert "\n" not in said
        assert len(said) < 700
        return "refused"
    for site, lora in expected.sites.items():
        assert found.sites[site].A.data.tobytes() == lora.A.data.tobytes()
        assert found.sites[site].B.data.tobytes() == lora.B.data.tobytes()
    return "same"


@pytest.mark.parametrize("name", ["peft", "checkpoint.pt"])
def test_truncated_file_gives_one_sentence(tmp_path: Path, name: str) -> None:
    damage(tmp_path, name, lambda data, rng: data[: rng.randrange(len(data))], {"refused"})


@pytest.mark.parametrize("name", ["peft", "bare.pt", "checkpoint.pt"])
def test_flipped_bit_gives_one_sentence_or_changes_nothing(tmp_path: Path, name: str) -> None:
    def flip(data: bytes, rng: random.Random) -> bytes:
        i = rng.randrange(len(data))
        return data[:i] + bytes([data[i] ^ 1 << rng.randrange(8)]) + data[i + 1 :]

    damage(tmp_path, name, flip, {"refused", "same"})


def damage(
    folder: Path, name: str, change: Callable[[bytes, random.Random], bytes], allowed: set[str]
) -> None:
    """Read 150 damaged copies of a golden file."""
    source = ADAPTERS / name
    path = folder / name
    if source.is_dir():
        shutil.copytree(source, path)
        source, target = source / "adapter_model.bin", path / "adapter_model.bin"
    else:
        target = path
    expected = read(ADAPTERS / name, alpha=GOLDENS[name])
    rng, data = random.Random(4), source.read_bytes()
    outcomes = set()
    for _ in range(150):
        target.write_bytes(change(data, rng))
        outcomes.add(outcome(path, expected))
    assert outcomes == allowed


# Memory.


def test_reading_takes_the_adapter_and_little_more(tmp_path: Path) -> None:
    one = np.zeros((64, 1 << 14), np.float32)
    state: dict[str, np.ndarray] = {"model.embed_tokens.weight": np.zeros((9, 1 << 20), np.float32)}
    for i in range(4):
        state[f"model.layers.{i}.mlp.up_proj.lora_A.weight"] = one
        state[f"model.layers.{i}.mlp.up_proj.lora_B.weight"] = np.ones((8, 64), np.float32)
    path = torch_save(tmp_path / "x.pt", {"model": state})
    del state
    tracemalloc.start()
    try:
        adapter = read(path, alpha=1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert adapter.nbytes <= peak < adapter.nbytes + 2.5 * one.nbytes
