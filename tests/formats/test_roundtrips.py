"""The same mathematics in every layout: delta(site) is equal, or within the bound."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paw_mlx import formats
from paw_mlx.adapter import Adapter, Site
from paw_mlx.errors import AdapterMismatch, OptionError
from paw_mlx.profiles import Profile

Maker = Callable[..., Adapter]
LAYOUTS = ("peft", "gguf", "mlx")


def same(one: Adapter, other: Adapter, tolerance: float = 1e-6) -> None:
    """Equal deltas; a site that only one of them has must add nothing."""
    for site in {*one.sites, *other.sites}:
        deltas = [a.delta(site) if site in a.sites else np.float32(0) for a in (one, other)]
        np.testing.assert_allclose(*np.broadcast_arrays(*deltas), rtol=0, atol=tolerance)


def through(adapter: Adapter, path: Path, layout: str, base: Profile, dtype=None) -> Adapter:
    formats.save_adapter(adapter, path, layout, base, dtype)
    assert formats.sniff(path) == layout
    return formats.load_adapter(path, base)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(LAYOUTS, 2)))
def test_every_pair_of_layouts_means_the_same(
    any_base: Profile, make: Maker, tmp_path: Path, first: str, second: str
) -> None:
    adapter = make(any_base)
    moved = through(adapter, tmp_path / "a", first, any_base)
    same(adapter, through(moved, tmp_path / "b", second, any_base))


@pytest.mark.parametrize(
    ("layout", "dtype", "step"),
    [(layout, "f16", 2**-10) for layout in LAYOUTS]
    + [(layout, "bf16", 2**-7) for layout in ("peft", "mlx")],
)
def test_half_floats_stay_within_their_rounding(
    llama: Profile, make: Maker, tmp_path: Path, layout: str, dtype: str, step: float
) -> None:
    adapter = make(llama)
    got = through(adapter, tmp_path / "a", layout, llama, dtype)
    assert got.dtypes == (dtype,)
    for site in adapter.sites:
        A, B = adapter.sites[site].A.dense(), adapter.sites[site].B.dense()
        bound = step * adapter.sites[site].scale * (np.abs(B) @ np.abs(A))
        assert (np.abs(got.delta(site) - adapter.delta(site)) <= bound).all()


def test_bf16_rounds_to_the_nearest_and_ties_to_even(
    llama: Profile, make: Maker, tmp_path: Path
) -> None:
    adapter = make(llama)
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-9], np.float32)
    adapter.sites[Site(0, "q_proj")].A.data.view("<f4")[0, :4] = values
    got = through(adapter, tmp_path / "a", "peft", llama, "bf16")
    want = [1, 1 + 2**-6, 1 + 2**-7, -1]
    assert got.sites[Site(0, "q_proj")].A.dense()[0, :4].tolist() == want


def test_q4_0_stays_within_half_a_step(any_base: Profile, make: Maker, tmp_path: Path) -> None:
    adapter = make(any_base)
    got = through(adapter, tmp_path / "a", "gguf", any_base, "q4_0")
    assert got.dtypes == ("q4_0",)
    for site, lora in adapter.sites.items():
        for want, have in ((lora.A, got.sites[site].A), (lora.B, got.sites[site].B)):
            blocks = want.dense().reshape(-1, 32)
            # 16 levels from -8 to 7 steps: the far end may be a whole step off.
            step = np.abs(blocks).max(axis=1, keepdims=True) / 8
            assert (np.abs(have.dense().reshape(-1, 32) - blocks) <= 1.01 * step).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_dtype_is_copied_bit_for_bit(
    llama: Profile, make: Maker, tmp_path: Path, layout: str
) -> None:
    adapter = make(llama, dtype=np.float16)
    got = through(adapter, tmp_path / "a", layout, llama)
    for site, lora in adapter.sites.items():
        assert np.array_equal(lora.A.data, got.sites[site].A.data)
        assert np.array_equal(lora.B.data, got.sites[site].B.data)


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


def test_q4_0_refuses_a_rank_its_blocks_do_not_divide(
    llama: Profile, make: Maker, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=r"blocks of 32.*rows of 8") as caught:
        formats.save_adapter(make(llama, rank=8), tmp_path / "a", "gguf", llama, "q4_0")
    assert "f16" in caught.value.hints[0]
    assert not list(tmp_path.iterdir())


def test_dtype_too_small_for_a_weight_is_refused(
    llama: Profile, make: Maker, tmp_path: Path
) -> None:
    adapter = make(llama)
    lora = adapter.sites[Site(0, "q_proj")]
    lora.A.data.view("<f4")[0, 0] = 1e6
    for layout in LAYOUTS:
        with pytest.raises(OptionError, match=r"1e\+06 is too large for f16"):
            formats.save_adapter(adapter, tmp_path / "a", layout, llama, "f16")


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
