"""Adapters in torch's files: read right, or refused in one sentence, without torch."""

from __future__ import annotations

import math
import random
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_adapters import RANK, assert_ours, named, read, refused, save_config
from torch_files import torch_save

from paw_mlx import formats
from paw_mlx.adapter import Adapter, Site
from paw_mlx.convert import torch_adapter
from paw_mlx.errors import AdapterMismatch, FormatError, OptionError, PawError, UnknownLayout
from paw_mlx.formats import peft
from paw_mlx.profiles import PROFILES

GOLDEN = Path(__file__).parents[1] / "golden"
ADAPTERS = GOLDEN / "torch" / "adapters"
GOLDENS = {"peft": None, "bare.pt": 12.0, "checkpoint.pt": 12.0, "sharded": 12.0}


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


def test_rslora_is_alpha_by_the_root_of_the_rank(tmp_path: Path) -> None:
    """As a config with use_rslora says: one scale, whoever says it."""
    found = read(torch_save(tmp_path / "x.pt", named()), alpha=4.0, rslora=True, rank=RANK)
    assert found.scales == (pytest.approx(4 / math.sqrt(RANK)),)
    (tmp_path / "peft").mkdir()
    torch_save(tmp_path / "peft" / "adapter_model.bin", named())
    save_config(tmp_path / "peft", use_rslora=True)
    assert read(tmp_path / "peft").scales == read(tmp_path / "peft", rslora=True).scales
    assert read(tmp_path / "peft").scales == found.scales
    save_config(tmp_path / "peft")
    error = refused(tmp_path / "peft", OptionError, alpha=None, rslora=True)
    assert "does not say use_rslora" in str(error)


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


def test_folder_of_adapters_names_them(tmp_path: Path) -> None:
    for name in ("polite", "brief"):
        (tmp_path / name).mkdir()
        save_config(tmp_path / name)
        torch_save(tmp_path / name / "adapter_model.bin", named())
    assert not torch_adapter.is_torch(tmp_path)
    with pytest.raises(UnknownLayout, match="folders of their own: 'brief', 'polite'") as caught:
        formats.sniff(tmp_path)
    assert str(tmp_path / "brief") in caught.value.hints[0]
    assert_ours(read(tmp_path / "polite"), 4.0)


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
