"""How many kernels a decoded token takes: exact, so that one more is seen.

Counts depend on the number of layers and not on widths; that mlx-lm's come out as published
(558 and 1,342 for Qwen3-0.6B) shows that both are counted alike.
"""

from __future__ import annotations

import json
import subprocess
import sys

import mlx.core as mx
import pytest

from paw_mlx.benchmarks import kernels

NARROW = kernels.QWEN3 | {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 192,
    "vocab_size": 256,
}


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    return kernels.count_ours(NARROW, rank=32)


def test_a_program_takes_fewer_kernels_than_the_bare_base_of_mlx_lm(counts):
    assert counts["base"] == 416  # 14 a layer, 24 around them
    assert counts["program"] == 416 + 4 * 28 == 528 < 558
    assert counts["program_dense"] == 416 + 8 * 28


def test_a_batch_takes_a_few_kernels_more_than_a_single_row(counts):
    assert counts["base_rows"] == 416
    assert counts["program_rows"] == 528
    assert counts["mixed"] == 416 + 10 * 28 == 696 <= 780


def test_counts_grow_by_the_layer(counts):
    fewer = kernels.count_ours(NARROW | {"num_hidden_layers": 27}, rank=32)
    assert counts["base"] - fewer["base"] == 14
    assert counts["program"] - fewer["program"] == 18
    assert counts["mixed"] - fewer["mixed"] == 24


def test_an_operation_counts_once_and_a_view_not_at_all():
    x = mx.arange(24, dtype=mx.float32).reshape(4, 6)
    mx.eval(x)
    found = kernels.kernels_of(
        lambda: mx.fast.rms_norm((mx.sin(x) @ x.T)[1:], None, 1e-6).reshape(-1)
    )
    assert found == {"Sin": 1, "Matmul": 1, "Erf": 1}
    normed = mx.fast.rms_norm(x, None, 1e-6)  # MLX's own again
    assert mx.square(normed).mean(-1).tolist() == pytest.approx([1] * 4, abs=1e-4)


@pytest.mark.slow
def test_the_benchmark_prints_the_counts_and_the_bytes_of_a_program():
    command = [sys.executable, "-m", "paw_mlx.benchmarks.kernels", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert (found["mlx_lm_base"], found["mlx_lm_lora"]) == (558, 1342)
    assert (found["base"], found["program"], found["mixed"]) == (416, 528, 696)
    assert 25e6 < found["resident_bytes"] <= 26e6
