"""The mapper leaves its pickle: every value, a tensor at a time, or one sentence."""

from __future__ import annotations

import tracemalloc

import mlx.core as mx
import numpy as np
import pytest
from torch_files import torch_save
from upstreams import META, mapper

from paw_mlx import FormatError
from paw_mlx.convert.mapper import convert_mapper


def test_the_mapper_keeps_every_value_and_becomes_float32(tmp_path):
    tensors = mapper()
    torch_save(tmp_path / "f32.pt", tensors)
    halves = {name: array.astype("<f2") for name, array in tensors.items()}
    torch_save(tmp_path / "f16.pt", halves)
    tops = {name: (array.view("<u4") >> 16).astype("<u2") for name, array in tensors.items()}
    torch_save(tmp_path / "bf16.pt", tops)
    cut = {name: array.view("<u4") & 0xFFFF0000 for name, array in tensors.items()}
    for name, expected in (
        ("f32", tensors),
        ("f16", {n: a.astype("<f4") for n, a in halves.items()}),
        ("bf16", {n: a.view("<f4") for n, a in cut.items()}),
    ):
        convert_mapper(tmp_path / f"{name}.pt", tmp_path / f"{name}.safetensors", META)
        found = mx.load(str(tmp_path / f"{name}.safetensors"))
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            assert found[key].dtype == mx.float32
            assert (np.array(found[key]) == array).all()


def test_the_mapper_is_never_in_memory_as_a_whole(tmp_path):
    tensors = mapper()
    for module in "abcdefgh":
        tensors[f"A_bases_{module}"] = np.ones((2, 4, 1 << 17), "<f4")
        tensors[f"B_bases_{module}"] = np.ones((2, 8, 4), "<f4")
    for part in ("weight", "bias"):  # ten modules of two bases
        tensors[f"coeff_head.{part}"] = np.ones((40, 64)[: 1 + (part == "weight")], "<f4")
    torch_save(tmp_path / "mapper.pt", tensors)
    tracemalloc.start()
    try:
        convert_mapper(tmp_path / "mapper.pt", tmp_path / "mapper.safetensors", META)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    largest = max(array.nbytes for array in tensors.values())
    assert largest <= peak < 1.5 * largest


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"trunk.0.bias": None}, r"trunk\.0\.bias is missing"),
        ({"trunk.2.bias": np.zeros(64, "<f4")}, r"'trunk\.2\.bias' is unknown"),
        ({"coeff_head.weight": np.zeros((24, 32), "<f4")}, r"is \(24, 32\), not \(24, 64\)"),
        ({"A_bases_c_fc": np.zeros((2, 8, 32), "<f4")}, r"is \(2, 8, 32\), not \(2, 4, 32\)"),
        ({"B_bases_c_fc": None}, "B_bases_c_fc is missing"),
        ({"B_bases_c_fc": np.zeros((3, 64, 4), "<f4")}, r"\(3, 64, 4\), not \(2, 64, 4\)"),
        (
            {"coeff_head.weight": np.zeros((26, 64), "<f4"), "coeff_head.bias": np.zeros(26, "f4")},
            "26 coefficients, which is no whole number of layers",
        ),
        ({"A_bases_c_attn": np.float32(1) + np.zeros((2, 4, 0), "<f4")}, "is empty"),
        ({"trunk.0.bias": np.full(64, np.nan, "<f4")}, "not finite"),
        (
            {"A_bases_c_attn": np.pad([[[-np.inf]]], ((0, 1), (0, 3), (0, 31))).astype("<f4")},
            "not finite",
        ),
    ],
)
def test_a_mapper_that_does_not_fit_is_refused(tmp_path, change, match):
    tensors = {n: a for n, a in (mapper() | change).items() if a is not None}
    torch_save(tmp_path / "mapper.pt", tensors)
    with pytest.raises(FormatError, match=match):
        convert_mapper(tmp_path / "mapper.pt", tmp_path / "mapper.safetensors", META)
    assert [path.name for path in tmp_path.iterdir()] == ["mapper.pt"]
