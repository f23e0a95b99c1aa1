"""mlx-q4 is Q4_0's exact image in MLX's packing, and nothing else is taken for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from paw_mlx import formats
from paw_mlx.adapter import Adapter, Site
from paw_mlx.errors import FormatError
from paw_mlx.profiles import Profile

Tensors = dict[str, mx.array]
Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def folder(llama: Profile, make: Callable[..., Adapter], tmp_path: Path) -> Path:
    formats.save_adapter(make(llama), tmp_path / "a", "mlx", llama, "mlx-q4")
    return tmp_path / "a"


@pytest.fixture
def q4_0(llama: Profile, make: Callable[..., Adapter], tmp_path: Path) -> Adapter:
    formats.save_adapter(make(llama), tmp_path / "g", "gguf", llama, "q4_0")
    return formats.load_adapter(tmp_path / "g", llama)


def test_mlx_unpacks_exactly_what_q4_0_holds(folder: Path, llama: Profile, q4_0: Adapter) -> None:
    tensors = mx.load(str(folder / "adapters.safetensors"))
    assert json.loads((folder / "adapter_config.json").read_text())["quantization"] == {
        "group_size": 32,
        "bits": 4,
    }
    assert len(tensors) == 6 * len(q4_0.sites)
    for site, lora in q4_0.sites.items():
        for half, m in (("A", lora.A), ("B", lora.B)):
            name = f"{llama.family.path(site)}.lora_{half}"
            parts = [tensors[f"{name}.{part}"] for part in ("weight", "scales", "biases")]
            assert [part.dtype for part in parts] == [mx.uint32, mx.float16, mx.float16]
            weight, scales, biases = parts
            assert weight.shape == (m.shape[0], m.shape[1] // 8)
            wide = scales.astype(mx.float32), biases.astype(mx.float32)
            dense = mx.dequantize(weight, *wide, group_size=32, bits=4)
            assert np.array_equal(np.array(dense), m.dense())


def test_read_back_it_is_q4_0_bit_for_bit(folder: Path, llama: Profile, q4_0: Adapter) -> None:
    got = formats.load_adapter(folder, llama)
    assert got.scales == q4_0.scales
    for site, lora in q4_0.sites.items():
        assert (got.sites[site].A.dtype, got.sites[site].B.dtype) == ("q4_0", "q4_0")
        assert np.array_equal(got.sites[site].A.data, lora.A.data)
        assert np.array_equal(got.sites[site].B.data, lora.B.data)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop(f"{Q}.lora_A.scales"), "has no scales"),
        (lambda t: t.pop(f"{Q}.lora_A.weight"), "0.q_proj has no A"),
        (lambda t: t.update({"x.scales": mx.zeros(1)}), "1 tensors belong to no A or B"),
        (lambda t: t.update({f"{Q}.lora_c.weight": mx.zeros(1)}), "1 tensors are no A or B"),
        (lambda t: t.update({f"{Q}.lora_A.biases": t[f"{Q}.lora_A.biases"] * 2}), "other biases"),
        (lambda t: t.update({f"{Q}.lora_A.biases": t[f"{Q}.lora_A.biases"][:, :0]}), "no 4-bit"),
        (lambda t: t.update({f"{Q}.lora_A.weight": t[f"{Q}.lora_A.weight"][:1]}), "no 4-bit"),
        (
            lambda t: t.update({f"{Q}.lora_A.weight": t[f"{Q}.lora_A.weight"].view(mx.float32)}),
            "no 4-bit",
        ),
        (lambda t: t.update({f"{Q}.lora_A.scales": mx.zeros((32,), mx.float16)}), "no 4-bit"),
    ],
)
def test_tensors_that_are_no_image_of_q4_0_are_refused(
    folder: Path, change: Callable[[Tensors], Any], sentence: str
) -> None:
    file = folder / "adapters.safetensors"
    tensors = mx.load(str(file))
    mx.eval(tensors)
    change(tensors)
    mx.save_safetensors(str(file), tensors)
    with pytest.raises(FormatError, match=sentence):
        formats.load_adapter(folder)


@pytest.mark.parametrize("value", [{"group_size": 64, "bits": 4}, {}, 4])
def test_another_quantization_is_refused(folder: Path, value: object) -> None:
    config = json.loads((folder / "adapter_config.json").read_text()) | {"quantization": value}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match=r"quantization is .* adapters are packed as"):
        formats.load_adapter(folder)


def test_an_infinite_scale_is_refused(folder: Path) -> None:
    file = folder / "adapters.safetensors"
    tensors = mx.load(str(file))
    for part, value in (("scales", np.inf), ("biases", -np.inf)):
        array = np.array(tensors[f"{Q}.lora_B.{part}"])
        array[0, 0] = value
        tensors[f"{Q}.lora_B.{part}"] = mx.array(array)
    mx.save_safetensors(str(file), tensors)
    with pytest.raises(FormatError, match=r"1 sites hold NaN or infinite weights: 0\.q_proj"):
        formats.load_adapter(folder)


def test_smaller_ranks_are_padded_with_nothing(
    llama: Profile, make: Callable[..., Adapter], tmp_path: Path
) -> None:
    adapter = make(llama, rank=lambda s: 32 * (1 + s.layer), alpha=lambda s: 8.0 * (1 + s.layer))
    formats.save_adapter(adapter, tmp_path / "a", "mlx", llama, "mlx-q4")
    formats.save_adapter(adapter, tmp_path / "g", "gguf", llama, "q4_0")
    padded = formats.load_adapter(tmp_path / "a", llama)
    alone = formats.load_adapter(tmp_path / "g", llama)
    assert padded.ranks == (96,)
    lora, want = padded.sites[Site(0, "up_proj")], alone.sites[Site(0, "up_proj")]
    assert np.array_equal(lora.A.data[:32], want.A.data)
    assert not lora.A.dense()[32:].any()
    assert not lora.B.dense()[:, 32:].any()
