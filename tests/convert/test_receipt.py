"""The receipt holds what was written to its dtype's rule, and notices what breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import tiny
from gguf import GGMLQuantizationType, quants

from paw_mlx.adapter import Adapter, Lora, Matrix, Site
from paw_mlx.convert.compare import compare
from paw_mlx.convert.receipt import Receipt, ReceiptError
from paw_mlx.convert.rounding import rounding_error
from paw_mlx.errors import AdapterMismatch
from paw_mlx.formats import sites as sites_of
from paw_mlx.formats.tensors import float_matrix

BASE = tiny.profile("qwen3")
ROUNDED = ("f16", "bf16", "q8_0", "q4_0")
ONE = Site(1, "k_proj")
Change = Callable[[Lora], Lora]


def written(array: np.ndarray, dtype: str) -> Matrix:
    """An array in a dtype, quantized by the gguf package itself."""
    if dtype in ("q8_0", "q4_0"):
        with np.errstate(all="ignore"):
            data = quants.quantize(array, GGMLQuantizationType[dtype.upper()])
        return Matrix(dtype, array.shape, data)
    return float_matrix(array, dtype)


def each(adapter: Adapter, change: Change, only: Site | None = None) -> Adapter:
    """The adapter with a change at every site, or at one."""
    return Adapter({s: change(o) if only in (None, s) else o for s, o in adapter.sites.items()})


def rounded(adapter: Adapter, dtype: str) -> Adapter:
    return each(
        adapter,
        lambda o: Lora(written(o.A.dense(), dtype), written(o.B.dense(), dtype), o.alpha),
    )


def by_parts(A: Callable, B: Callable, alpha: float = 1.0) -> Change:
    """A change of the dense factors, and of alpha by a factor."""
    return lambda o: Lora(
        Matrix.from_array(np.ascontiguousarray(A(o.A.dense()), np.float32)),
        Matrix.from_array(np.ascontiguousarray(B(o.B.dense()), np.float32)),
        o.alpha * alpha,
    )


def same(array: np.ndarray) -> np.ndarray:
    return array


def as_it_is(receipt: Receipt, before: Adapter, after: Adapter) -> None:
    """The receipt's numbers are those of the deltas themselves."""
    for row in receipt.sites:
        change = after.delta(row.site).astype(float) - before.delta(row.site)
        size = float(np.abs(before.delta(row.site)).max())
        assert row.max_abs == pytest.approx(np.abs(change).max(), abs=1e-6 * size)
        assert row.max_rel == pytest.approx(row.max_abs / size, rel=1e-3)


@pytest.fixture
def source() -> Adapter:
    return tiny.adapter(BASE, rank=32)


def test_a_copy_is_exact(source):
    receipt = compare(source, each(source, lambda o: replace(o)))
    assert (receipt.ok, receipt.exact, receipt.max_abs, receipt.max_rel) == (True, True, 0, 0)
    assert receipt.num_sites == len(source.sites)
    assert receipt.bytes_before == receipt.bytes_after == source.nbytes


def test_a_wider_dtype_is_exact(source):
    for dtype in ROUNDED:
        narrow = rounded(source, dtype)
        assert compare(narrow, rounded(narrow, "f32")).exact


@pytest.mark.parametrize("dtype", ROUNDED)
def test_rounding_is_accepted_and_bounded(source, dtype):
    after = rounded(source, dtype)
    receipt = compare(source, after)
    assert receipt.ok, receipt.problems
    assert not receipt.exact
    as_it_is(receipt, source, after)
    for row in receipt.sites:
        assert 0 < row.max_abs <= row.bound <= 6 * row.max_abs
    assert receipt.bytes_after == after.nbytes < receipt.bytes_before


@pytest.mark.parametrize("dtype", ["f32", *ROUNDED])
def test_padded_ranks_and_folded_scales_are_accepted(source, dtype):
    wider = each(
        source,
        by_parts(
            lambda A: np.pad(A, [(0, 32), (0, 0)]),
            lambda B: np.pad(B * np.float32(1 / 0.3), [(0, 0), (0, 32)]),
            2 * 0.3,
        ),
    )
    receipt = compare(source, rounded(wider, dtype))
    assert receipt.ok, receipt.problems
    assert {(row.before.rank, row.after.rank) for row in receipt.sites} == {(32, 64)}
    assert receipt.max_rel < (1e-6 if dtype == "f32" else 0.3)


def test_a_scale_folded_by_a_power_of_two_is_exact(source):
    assert compare(source, each(source, by_parts(same, lambda B: B * 4, 1 / 4))).exact


def test_a_scale_of_zero_may_move_into_b(source):
    silent = each(source, lambda o: replace(o, alpha=0.0))
    moved = each(silent, lambda o: by_parts(same, np.zeros_like)(replace(o, alpha=5.0)))
    assert compare(silent, moved).exact
    assert not compare(silent, source).ok


def test_factors_in_another_order_or_split_are_the_same(source):
    chance = np.random.default_rng(3)
    order, share = chance.permutation(32), np.exp(chance.normal(0, 1, 32)).astype(np.float32)
    for change in (
        by_parts(lambda A: A[order], lambda B: B[:, order]),
        by_parts(lambda A: A * share[:, None], lambda B: B / share),
    ):
        receipt = compare(source, each(source, change))
        assert receipt.ok, receipt.problems
        assert receipt.max_rel < 1e-5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (by_parts(np.negative, same), "an element of A"),
        (by_parts(same, np.negative), "an element of scale * B"),
        (by_parts(same, same, 1.01), "an element of scale * B"),
        (by_parts(lambda A: A[::-1], same), "an element of A"),
        (by_parts(lambda A: np.where(A.max() == A, np.nan, A), same), "NaN"),
        (lambda o: replace(o, alpha=float("nan")), "NaN"),
        (by_parts(lambda A: A[:, 32:], same), "is (32, 64) now, and was (64, 64)"),
    ],
)
@pytest.mark.parametrize("dtype", ["f32", *ROUNDED])
def test_a_site_that_changed_is_named(source, change, words, dtype):
    written_one = rounded(source, dtype)
    with np.errstate(invalid="ignore"):
        broken = change(source.sites[ONE])
        finite = np.isfinite(broken.A.dense()).all()
        narrow = rounded(Adapter({ONE: broken}), dtype).sites[ONE] if finite else broken
    receipt = compare(source, Adapter({**written_one.sites, ONE: narrow}))
    assert not receipt.ok
    assert receipt.worst == ONE
    [problem] = receipt.problems
    assert problem.startswith(f"{ONE}")
    assert words in problem
    assert "1 of 21 sites are not the same" in str(receipt)


def off_by_one(m: Matrix) -> Matrix:
    """A q4_0 matrix with every code one too high, the highest one too low."""
    data = m.data.reshape(-1, 18).copy()
    low, high = data[:, 2:] & 15, data[:, 2:] >> 4
    low, high = (np.where(codes == 15, 14, codes + 1) for codes in (low, high))
    data[:, 2:] = low | high << 4
    return Matrix("q4_0", m.shape, data.reshape(m.data.shape))


def test_a_quantization_worse_than_its_rule_is_refused(source):
    narrow = rounded(source, "q4_0")
    for change in (
        lambda o: replace(o, A=off_by_one(o.A)),
        lambda o: replace(o, B=off_by_one(o.B)),
        lambda o: replace(o, B=written(written(o.B.dense() * 1.02, "f16").dense(), "q4_0")),
    ):
        receipt = compare(source, each(narrow, change, ONE))
        [problem] = receipt.problems
        assert f"{ONE}: an element" in problem
        assert "q4_0 allows" in problem


def test_a_scale_that_moved_allows_the_error_of_folding_it_and_no_more():
    """In rank 1 float32's own noise is less: 5 half steps."""
    source = tiny.adapter(BASE, rank=1)

    def off_by(half_steps: int) -> Receipt:
        B = np.float64(1 + half_steps * 2.0**-24) / 0.3
        return compare(source, each(source, by_parts(same, lambda b: b.astype(float) * B, 0.3)))

    assert off_by(0).ok
    assert off_by(5).ok
    receipt = off_by(12)
    assert len(receipt.problems) == len(source.sites)
    assert "an element of scale * B" in receipt.problems[0]


@pytest.mark.parametrize("halves", ["A", "B", "AB"])
def test_the_bound_counts_what_either_half_may_be_off_and_both_together(halves):
    """At half of the smallest step of f16, and a little more: what is rounded there doubles."""
    small = np.full((64, 64), 1.001 * 2**-25, np.float32)
    before = Lora(*(Matrix.from_array(part) for part in (small[:1], small[:, :1])), 1.0)
    after = replace(before, **{h: written(getattr(before, h).dense(), "f16") for h in halves})
    (row,) = compare(Adapter({ONE: before}), Adapter({ONE: after})).sites
    assert row.problem is None
    assert row.max_rel == pytest.approx(2 ** len(halves) - 1, rel=0.01)
    assert row.max_abs <= row.bound <= 1.01 * row.max_abs


def test_what_is_written_in_eight_bits_is_not_what_four_bits_make_of_it(source):
    four_as_eight = rounded(rounded(source, "q4_0"), "q8_0")
    assert len(compare(source, four_as_eight).problems) == len(source.sites)


def test_sites_missing_or_surplus_are_named(source):
    fewer = Adapter({s: o for s, o in source.sites.items() if s != ONE})
    missing, surplus = compare(source, fewer), compare(fewer, source)
    assert missing.problems == [f"{ONE} is missing, and added up to {missing.max_abs:.3g}"]
    assert surplus.problems == [f"{ONE} was not there, and adds up to {surplus.max_abs:.3g}"]
    assert missing.max_rel == 1
    assert missing.max_abs == surplus.max_abs
    assert missing.max_abs == pytest.approx(np.abs(source.delta(ONE)).max(), rel=1e-5)
    assert json.loads(json.dumps(surplus.record(), allow_nan=False))["max_rel"] is None


def test_sites_that_fill_gaps_are_counted_and_do_no_harm(source):
    fewer = Adapter({s: o for s, o in source.sites.items() if s.layer != 1})
    receipt = compare(fewer, sites_of.fill(fewer, list(BASE.sites()), BASE))
    assert (receipt.ok, receipt.exact, receipt.num_filled) == (True, True, 7)
    assert {row.site.layer for row in receipt.sites if row.filled} == {1}
    assert all("1 filled" in row[-1] for row in receipt.rows()[1:])


def test_roundings_of_one_original_are_accepted_as_siblings_alone(source):
    for one in ROUNDED:
        for other in ROUNDED:
            first, second = rounded(source, one), rounded(source, other)
            assert compare(first, second, mutual=True).ok, (one, other)
            assert compare(first, source, mutual=True).ok
    broken = each(rounded(source, "q8_0"), by_parts(same, same, 1.1), ONE)
    assert not compare(rounded(source, "f16"), broken, mutual=True).ok
    assert not compare(rounded(source, "bf16"), rounded(source, "f16")).ok


def test_the_record_is_json_and_has_every_site(source):
    receipt = compare(source, rounded(source, "f16"))
    record = json.loads(json.dumps(receipt.record(), allow_nan=False))
    assert [(s["layer"], s["module"]) for s in record["sites"]] == sorted(source.sites)
    assert record["sites"][0]["before"]["A"] == "f32"
    assert record["sites"][0]["after"]["B"] == "f16"
    assert (record["ok"], record["exact"], record["problems"]) == (True, False, [])
    assert record["max_rel"] == max(s["max_rel"] for s in record["sites"])


def test_a_receipt_of_nothing_is_refused_and_proves_nothing():
    with pytest.raises(AdapterMismatch, match="one site or more, and this one has 0"):
        Receipt(())


def test_an_error_s_record_has_the_receipt_and_what_to_do_about_it(source):
    receipt = compare(source, rounded(source, "f16"))
    record = ReceiptError("not the same", receipt).record()
    assert (record["code"], record["message"]) == ("ReceiptError", "not the same")
    assert record["receipt"] == receipt.record()
    (hint,) = record["hints"]
    assert "Nothing was kept" in hint
    assert "hints" not in ReceiptError("not the same", receipt).record(hints=False)


def test_the_table_has_a_row_for_each_module(source):
    head, *rows = compare(source, rounded(source, "q4_0")).rows()
    assert [row[0] for row in rows] == sorted(BASE.family.modules)
    assert {len(row) for row in rows} == {len(head)}
    assert rows[0][head.index("sites")] == "3"
    assert rows[0][head.index("dtype")] == "f32 → q4_0"
    assert rows[0][head.index("rank")] == "32"
    assert rows[0][-1] == "within"


def adversaries() -> Iterator[np.ndarray]:
    """Blocks of 32 on which a rule does its worst, or where its arithmetic has an edge."""
    chance = np.random.default_rng(7)
    normal = chance.normal(0, 1, (2000, 32))
    yield np.zeros((4, 32))
    yield np.ones((4, 32)) * [[1], [-1], [3e-7], [6e4]]  # all equal
    yield np.sign(normal)  # ties between signs
    yield np.where(np.arange(32) == 31, 1000 * normal, normal)  # one huge, at the end
    yield np.where(np.arange(32) == 0, 1, -chance.uniform(0.9, 1, normal.shape))  # clipped
    yield chance.integers(-16, 17, normal.shape) / 16 * normal[:, :1]  # halfway between codes
    yield chance.integers(-254, 255, normal.shape) / 254 * normal[:, :1]
    yield chance.integers(-40, 41, normal.shape) * 2.0**-25  # f16's subnormals
    yield chance.integers(-3, 4, normal.shape) * 1e-45  # float32's
    yield normal * 10.0 ** chance.uniform(-45, 4, (2000, 1))


@pytest.mark.parametrize("dtype", ["f32", *ROUNDED])
def test_no_block_rounds_beyond_its_rule(dtype):
    for block in adversaries():
        values = block.astype(np.float32)
        off = np.abs(written(values, dtype).dense().astype(float) - values)
        assert (off <= rounding_error(values.astype(float), dtype)).all()


@pytest.mark.parametrize("dtype", ROUNDED)
def test_the_rule_is_reached_and_no_wider_than_needed(dtype):
    values = np.random.default_rng(8).normal(0, 0.02, (64, 1024)).astype(np.float32)
    off = np.abs(written(values, dtype).dense().astype(float) - values)
    limit = rounding_error(values.astype(float), dtype)
    assert (off / limit).max() > 0.98
    assert limit.mean() < 3 * off.mean()
    clipped = np.full((1, 32), -0.99, np.float32)
    clipped[0, 0] = 1
    off = np.abs(written(clipped, "q4_0").dense() - clipped)
    assert off.max() > 0.9 / 8  # nearly a whole step, not half of one


@pytest.mark.parametrize("step", [1 + 2**-11 - 2**-20, 100.499 * 2**-24])
def test_a_step_that_was_rounded_itself_allows_its_share_and_no_more(step):
    """Blocks whose step is nearly halfway between two of f16, and codes that nearly round up."""
    codes = np.arange(128).reshape(4, 32)
    block = ((codes + np.where(codes == 127, 0, 0.499)) * step).astype(np.float32)
    block[:3, 31] = np.float32(127 * step)
    off = np.abs(written(block, "q8_0").dense().astype(float) - block)
    limit = rounding_error(block.astype(float), "q8_0")
    assert (off <= limit).all()
    near = block < 126.9 * step
    assert (limit <= 1.02 * off)[near].all()
