"""Bytes by arithmetic, beside those that models take."""

from __future__ import annotations

import pytest
import tiny

from paw_mlx.benchmarks.speed import synthetic
from paw_mlx.benchmarks.speed.chat import MlxLm
from paw_mlx.benchmarks.speed.paw import Paw
from paw_mlx.benchmarks.speed.sizes import Form, Sizes
from paw_mlx.benchmarks.speed.worker import Worker
from paw_mlx.interpreter.models.load import load_base
from paw_mlx.profiles import Profile

FLOAT32 = Form(None, 4, fused=False)


@pytest.mark.parametrize("bits", [None, 4, 6, 8])
def test_arithmetic_gives_the_bytes_that_a_model_and_a_program_take(bits):
    sizes = Sizes.of(synthetic.config("tiny"), Form(bits, 4, fused=False))
    adapter = synthetic.adapter(Profile.from_config(synthetic.config("tiny")))
    with Worker(Paw, made_up="tiny", bits=bits) as paw:
        loaded = paw.call("load")
        before = paw.call("memory")["active_bytes"]
        paw.call("prefill_decode", num_prompt=32, num_decode=8, seed=0)
        grown = paw.call("memory")["active_bytes"] - before
    assert loaded["weight_bytes"] == sizes.weight_bytes
    assert loaded["adapter_bytes"] == sizes.adapter_bytes(adapter)
    # The allocator may give a freed buffer again that is a little larger, never a smaller one.
    assert 1 <= grown / (loaded["adapter_bytes"] + sizes.row_bytes(96)) < 1.05


@pytest.mark.slow
@pytest.mark.parametrize("target", [Paw, MlxLm])
def test_arithmetic_gives_the_peak(target):
    """At a shape whose activations and scores outweigh what a step takes besides."""
    shape = {"num_prompt": 512, "num_decode": 32}
    with Worker(target, made_up="tiny") as worker:
        worker.call("load")
        worker.call("prefill_decode", **shape, seed=0)
        peak = worker.call("memory")["run_peak_bytes"]
        expected = worker.call("expected", **shape)["expected_peak_bytes"]
    assert expected == pytest.approx(peak, rel=0.25)
    step = Sizes.of(synthetic.config("tiny"), FLOAT32).workspace_bytes(512)
    assert expected - step < 0.5 * peak  # which the step is most of


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_arithmetic_gives_the_bytes_of_every_family(family, tmp_path):
    base = load_base(tiny.write_base(tmp_path / "base", family))
    assert Sizes.of(tiny.config(family), FLOAT32).weight_bytes == base.nbytes


def test_arithmetic_gives_the_published_sizes():
    def weight_bytes(name: str, bits: int | None) -> int:
        return Sizes.of(synthetic.config(name), Form(bits, 2)).weight_bytes

    assert weight_bytes("qwen3-0.6b", None) == 2 * 596_049_920
    assert weight_bytes("qwen3-32b", None) == 2 * 32_762_123_264
    assert weight_bytes("qwen3-0.6b", 4) == pytest.approx(335.4e6, rel=1e-3)
    assert weight_bytes("qwen3-32b", 4) == pytest.approx(18.43e9, rel=1e-3)
    assert Sizes.of(synthetic.config("qwen3-0.6b"), Form(4, 2)).kv_bytes == 114_688
    assert Sizes.of(synthetic.config("qwen3-32b"), Form(4, 2)).kv_bytes == 262_144


def test_a_form_is_read_as_a_base_words_it():
    forms = ("bfloat16, 4-bit g64", "bfloat16, 8-bit g32", "float32")
    found = [Form.of(form) for form in forms]
    assert [(form.bits, form.dtype_bytes, form.group_size) for form in found] == [
        (4, 2, 64), (8, 2, 32), (None, 4, 64),
    ]  # fmt: skip
