"""What one layout does to an adapter; every pair of layouts is in test_pairs.py."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import layouts
import numpy as np
import pytest

from paw_mlx import formats
from paw_mlx.adapter import Adapter, Site
from paw_mlx.errors import AdapterMismatch, OptionError
from paw_mlx.profiles import Profile

Maker = Callable[..., Adapter]
LAYOUTS = layouts.ADAPTERS


def same(one: Adapter, other: Adapter, tolerance: float = 1e-6) -> None:
    """Equal deltas; a site that only one of them has must add nothing."""
    for site in {*one.sites, *other.sites}:
        deltas = [a.delta(site) if site in a.sites else np.float32(0) for a in (one, other)]
        np.testing.assert_allclose(*np.broadcast_arrays(*deltas), rtol=0, atol=tolerance)


def through(adapter: Adapter, path: Path, layout: str, base: Profile, dtype=None) -> Adapter:
    formats.save_adapter(adapter, path, layout, base, dtype)
    assert formats.sniff(path) == layout
    return formats.load_adapter(path, base)


def test_bf16_rounds_to_the_nearest_and_ties_to_even(
    llama: Profile, make: Maker, tmp_path: Path
) -> None:
    adapter = make(llama)
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-9], np.float32)
    adapter.sites[Site(0, "q_proj")].A.data.view("<f4")[0, :4] = values
    got = through(adapter, tmp_path / "a", "peft", llama, "bf16")
    want = [1, 1 + 2**-6, 1 + 2**-7, -1]
    assert got.sites[Site(0, "q_proj")].A.dense()[0, :4].tolist() == want


def test_q4_0_survives_another_save_unchanged(llama: Profile, make: Maker, tmp_path: Path) -> None:
    packed = through(make(llama), tmp_path / "a", "gguf", llama, "q4_0")
    again = through(packed, tmp_path / "b", "gguf", llama, "q4_0")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    same(packed, through(again, tmp_path / "c", "peft", llama), tolerance=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mixed_ranks_and_scales_mean_the_same(
    llama: Profile, make: Maker, tmp_path: Path, layout: str
) -> None:
    adapter = make(
        llama,
        rank=lambda site: 4 * (1 + site.layer),
        alpha=lambda site: 0.0 if site == (1, "q_proj") else 1.5 + len(site.module),
    )
    got = through(adapter, tmp_path / "a", layout, llama)
    same(adapter, got)
    assert np.abs(got.delta(Site(2, "q_proj"))).max() > 1e-3


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "sites",
    [
        [Site(0, "q_proj"), Site(0, "k_proj")],
        [Site(0, "k_proj"), Site(2, "k_proj")],
        [Site(1, "up_proj"), Site(2, "up_proj"), Site(2, "o_proj")],
    ],
    ids=["first layer only", "a gap", "ragged"],
)
def test_partial_adapters_mean_the_same(
    llama: Profile, make: Maker, tmp_path: Path, layout: str, sites: list[Site]
) -> None:
    adapter = make(llama, rank=8, sites=sites)
    same(adapter, through(adapter, tmp_path / "a", layout, llama))


@pytest.mark.parametrize(
    ("layout", "dtype"), [("gguf", "q4_0"), ("gguf", "q8_0"), ("mlx", "mlx-q4")]
)
def test_blocks_refuse_a_rank_they_do_not_divide(
    llama: Profile, make: Maker, tmp_path: Path, layout: str, dtype: str
) -> None:
    with pytest.raises(OptionError, match=r"blocks of 32.*rows of 8") as caught:
        formats.save_adapter(make(llama, rank=8), tmp_path / "a", layout, llama, dtype)
    assert "f16" in caught.value.hints[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("layout", "dtype", "weight"),
    [(layout, "f16", 1e6) for layout in LAYOUTS]
    + [("peft", "bf16", 3.4e38), ("gguf", "q8_0", 1e7), ("gguf", "q4_0", 1e6)]
    + [("mlx", "mlx-q4", 81920.0)],
)
def test_dtype_too_small_for_a_weight_is_refused(
    llama: Profile, make: Maker, tmp_path: Path, layout: str, dtype: str, weight: float
) -> None:
    adapter = make(llama)
    adapter.sites[Site(0, "q_proj")].A.data.view("<f4")[0, 0] = weight
    with pytest.raises(
        OptionError, match=rf"{re.escape(f'{weight:.4g}')} is too large for {dtype}"
    ):
        formats.save_adapter(adapter, tmp_path / "a", layout, llama, dtype)
    assert not list(tmp_path.iterdir())


def test_scales_alike_but_for_an_ulp_are_one_scale(
    llama: Profile, make: Maker, tmp_path: Path
) -> None:
    ranks = {"rank": lambda s: 3 + 4 * s.layer, "alpha": lambda s: 0.1 * (3 + 4 * s.layer)}
    adapter = make(llama, dtype=np.float16, **ranks)
    assert len(adapter.scales) > 1
    got = through(adapter, tmp_path / "a", "mlx", llama)
    assert got.dtypes == ("f16",)


@pytest.mark.parametrize("layout", ["gguf", "mlx"])
def test_scales_too_far_apart_for_one_are_refused(
    llama: Profile, make: Maker, tmp_path: Path, layout: str
) -> None:
    adapter = make(llama, alpha=lambda site: 1e30 if site == (0, "q_proj") else 1e-30)
    with pytest.raises(OptionError, match=r"B times 1e\+60 is infinite") as caught:
        formats.save_adapter(adapter, tmp_path / "a", layout, llama)
    assert "PEFT" in caught.value.hints[0]


@pytest.mark.parametrize(("layout", "dtype"), [("gguf", "f32"), ("mlx", "f32"), ("gguf", "q4_0")])
def test_writing_holds_one_tensor_at_a_time(
    make: Maker, tmp_path: Path, layout: str, dtype: str
) -> None:
    base = layouts.large_base()
    adapter = make(base, alpha=lambda site: 8.0 + site.layer)  # so that every B is multiplied
    tracemalloc.start()
    formats.save_adapter(adapter, tmp_path / "a", layout, base, dtype)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < adapter.nbytes / 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_adapter_for_another_base_is_not_written(
    llama: Profile, make: Maker, tmp_path: Path, layout: str
) -> None:
    other = Profile.from_config(
        {
            "model_type": "llama",
            "hidden_size": 64,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "max_position_embeddings": 128,
        },
        "wider",
    )
    with pytest.raises(AdapterMismatch, match="wider"):
        formats.save_adapter(make(llama), tmp_path / "a", layout, other)


def test_llama_rows_are_reordered_in_the_file_and_back(
    llama: Profile, make: Maker, tmp_path: Path
) -> None:
    from paw_mlx.formats.gguf_reader import read_gguf

    adapter = make(llama)
    formats.save_adapter(adapter, tmp_path / "a", "gguf", llama)
    stored = read_gguf(tmp_path / "a").tensors["blk.0.attn_q.weight.lora_b"]
    B = adapter.sites[Site(0, "q_proj")].B.dense()
    want = B.reshape(2, 2, 8, 32).swapaxes(1, 2).reshape(32, 32)
    assert np.array_equal(stored.data.view("<f4").reshape(stored.shape), want)
    assert not np.array_equal(B, want)
