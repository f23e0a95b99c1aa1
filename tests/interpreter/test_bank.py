"""The bank: rows that run different programs, what stays in memory, and what it takes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import tiny

from paw_mlx.adapter import Adapter, Lora, Matrix, Site
from paw_mlx.formats.gguf import recode
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.adapters.bank import Bank
from paw_mlx.interpreter.adapters.hot import HotForm
from paw_mlx.interpreter.adapters.parallel import Parallel
from paw_mlx.interpreter.adapters.slots import AdapterSlots, SlotForm
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import Base, load_base
from paw_mlx.profiles import PROFILES
from paw_mlx.program import Program, Template

LARGE = 1 << 30
TOKENS = np.array([[5, 9, 40, 77, 3, 21], [8, 8, 61, 2, 90, 14], [33, 1, 7, 7, 50, 6]] * 2)


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base") / request.param
    return load_base(tiny.write_base(folder, request.param))


@pytest.fixture
def make_bank(base: Base) -> Iterator[Callable[..., Bank]]:
    def make(max_bytes: int | Callable[[], int] = LARGE, **options: bool) -> Bank:
        ask = max_bytes if callable(max_bytes) else lambda: max_bytes
        return Bank(base.groups, base.dtype, **{"packed": False, "max_bytes": ask, **options})

    yield make
    for group in base.groups:
        group.form = None


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Adapter]:
    """The adapters that were written into slots, in order."""
    found: list[Adapter] = []
    write = AdapterSlots.write

    def spy(slots: AdapterSlots, slot: int, adapter: Adapter) -> None:
        found.append(adapter)
        write(slots, slot, adapter)

    monkeypatch.setattr(AdapterSlots, "write", spy)
    return found


def program(
    base: Base, seed: int, rank: int = 4, dtype: str = "f32", without: Sequence[str] = ()
) -> Program:
    """A program of its own; it touches no module named in `without`, and none of layer 0 there."""
    sites = {}
    for site, pair in tiny.adapter(base.profile, seed, rank).sites.items():
        if not without or (site.layer and site.module not in without):
            A, B = recode(pair.A, dtype), recode(pair.B, dtype)
            sites[site] = Lora(A, B, 2.0 * rank)
    return Program(Template("", "x"), Adapter(sites), base.profile.name)


def bare(base: Base) -> Program:
    return Program(Template("", "x"), None, base.profile.name)


def forward(base: Base, tokens: np.ndarray) -> np.ndarray:
    """Scores (B, T, V), the last token decoded on its own after the others."""
    kv = KV(base.model.num_layers)
    hidden = [base.model.hidden(mx.array(part), kv) for part in (tokens[:, :-1], tokens[:, -1:])]
    return np.array(base.model.logits(mx.concatenate(hidden, axis=1)))


def run(base: Base, bank: Bank, programs: Sequence[Program]) -> np.ndarray:
    """Scores of as many rows, each by its program."""
    bank.use(programs)
    return forward(base, TOKENS[: len(programs)])


def alone(base: Base, one: Program, row: int) -> np.ndarray:
    """Scores of a row by itself, A and B beside the base; the bank does not notice."""
    before = [group.form for group in base.groups]
    lora.attach(base.groups, lora.pairs(one.adapter, base.dtype) if one.adapter else {})
    scores = forward(base, TOKENS[row : row + 1])[0]
    for group, form in zip(base.groups, before, strict=True):
        group.form = form
    return scores


def forms(base: Base) -> set[type]:
    return {type(group.form) for group in base.groups}


# --- Rows --------------------------------------------------------------------------------


def check_mixed(base: Base, bank: Bank, programs: Sequence[Program]) -> None:
    expected = np.stack([alone(base, one, row) for row, one in enumerate(programs)])
    plain = np.stack([alone(base, bare(base), row) for row in range(len(programs))])
    moved = [
        np.abs(expected[row] - plain[row]).max() for row, p in enumerate(programs) if p.adapter
    ]
    assert min(moved) > 0.5
    for order in (range(len(programs)), [*range(1, len(programs)), 0]):
        bank.use([programs[i] for i in order])
        assert forms(base) == {SlotForm}
        np.testing.assert_allclose(forward(base, TOKENS[list(order)]), expected[order], atol=2e-4)


def test_every_row_of_a_mixed_batch_runs_its_own_program(base: Base, make_bank) -> None:
    module = base.profile.family.modules[0]
    dense = [program(base, 1, 4), program(base, 2, 8), program(base, 3, 32, without=[module])]
    check_mixed(base, make_bank(), [*dense, bare(base), dense[0]])


def test_packed_rows_run_what_the_file_holds(base: Base, make_bank) -> None:
    module = base.profile.family.modules[-1]
    packed = [
        program(base, 1, 32, "q4_0"),
        program(base, 2, 64, "q4_0"),
        program(base, 3, 32, "q4_0", without=[module]),
    ]
    bank = make_bank(packed=True)
    assert {bank.kind(one) for one in packed} == {"packed"}
    check_mixed(base, bank, [*packed, bare(base), packed[1]])


def test_rows_without_adapters_run_the_bare_base(base: Base, make_bank) -> None:
    bank, one = make_bank(), program(base, 1)
    run(base, bank, [one, bare(base)])
    scores = run(base, bank, [bare(base), bare(base)])
    assert forms(base) == {type(None)}
    np.testing.assert_allclose(scores[1], alone(base, bare(base), 1), atol=1e-4)
    assert bank.resident_bytes(bare(base)) == 0


def test_packed_and_dense_programs_share_a_budget(base: Base, make_bank) -> None:
    bank = make_bank(packed=True)
    pairs = {
        dtype: [program(base, seed, 32, dtype) for seed in (1, 2)] for dtype in ("q4_0", "f32")
    }
    first = {dtype: run(base, bank, pair) for dtype, pair in pairs.items()}
    assert len({bank.kind(one) for pair in pairs.values() for one in pair}) == 2
    assert bank.nbytes == 3 * sum(bank.resident_bytes(pair[0]) for pair in pairs.values())
    assert bank.fits([one for pair in pairs.values() for one in pair])
    needed = 3 * bank.resident_bytes(pairs["f32"][0])
    small = make_bank(packed=True, max_bytes=needed)
    assert not small.fits([one for pair in pairs.values() for one in pair])
    for _ in range(2):
        for dtype, pair in pairs.items():
            assert np.array_equal(run(base, small, pair), first[dtype])
            assert small.nbytes <= needed


def test_rows_of_a_packed_base_after_another_program_was_hot(tmp_path: Path) -> None:
    base = load_base(tiny.write_base(tmp_path / "b", "llama"), bits=4, group_size=32)
    bank = Bank(base.groups, base.dtype, packed=True, max_bytes=lambda: LARGE)
    run(base, bank, [program(base, 4, 64, "q4_0")])
    assert forms(base) == {HotForm}
    check_mixed(
        base, bank, [program(base, 1, 32, "q4_0"), bare(base), program(base, 2, 64, "q4_0")]
    )


def test_activations_keep_the_bases_dtype(tmp_path: Path) -> None:
    base = load_base(tiny.write_base(tmp_path / "b", "qwen3"))
    for group in base.groups:
        group.dtype = mx.bfloat16
        for stack in group.stacks:
            stack.set_dtype(mx.bfloat16)
    bank = Bank(base.groups, mx.bfloat16, packed=True, max_bytes=lambda: LARGE)
    programs = [program(base, seed, 32, "q4_0") for seed in (1, 2)]
    bank.use(programs)
    for group in base.groups:
        x = mx.random.normal((2, 3, group.d_in)).astype(mx.bfloat16)
        assert group(x).dtype == mx.bfloat16


@pytest.mark.parametrize("packed", ["A", "B"])
def test_rows_whose_a_and_b_are_stored_unlike_run_both(base: Base, make_bank, packed: str) -> None:
    programs = []
    for seed in (1, 2):
        one = program(base, seed, 32)
        assert one.adapter
        sites = {
            site: replace(pair, **{packed: recode(getattr(pair, packed), "q4_0")})
            for site, pair in one.adapter.sites.items()
        }
        programs.append(replace(one, adapter=Adapter(sites)))
    check_mixed(base, make_bank(packed=True), [*programs, bare(base)])


def test_a_forward_pass_of_other_rows_is_refused(base: Base, make_bank) -> None:
    bank = make_bank()
    bank.use([program(base, 1), bare(base)])
    with pytest.raises(AssertionError, match="not told"):
        forward(base, TOKENS[:1])


# --- What a program takes ----------------------------------------------------------------


def qwen3_layer() -> tuple[list[Parallel], Program]:
    """One of the 28 layers of Qwen3-0.6B, unevaluated, and a program of rank 64 for it."""
    profile = PROFILES["qwen3-0.6b"]
    chance = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> Matrix:
        data = chance.integers(0, 256, (rows, columns // 32, 18), np.uint8)
        data[..., 1] &= 0x3F  # no infinite scales
        return Matrix("q4_0", (rows, columns), data.reshape(rows, -1))

    groups, sites = [], {}
    for modules in (
        ("q_proj", "k_proj", "v_proj"),
        ("o_proj",),
        ("gate_proj", "up_proj"),
        ("down_proj",),
    ):
        shapes = [profile.shapes[module] for module in modules]
        layers = [nn.Linear(*shape, bias=False) for shape in shapes]
        groups.append(Parallel([Site(0, module) for module in modules], layers, copied=False))
        for module, (d_in, d_out) in zip(modules, shapes, strict=True):
            sites[Site(0, module)] = Lora(matrix(64, d_in), matrix(d_out, 64), 16.0)
    return groups, Program(Template("", "x"), Adapter(sites), profile.name)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_a_resident_qwen3_program_takes_26_mb(dtype: mx.Dtype) -> None:
    groups, one = qwen3_layer()
    bank = Bank(groups, dtype, packed=True, max_bytes=lambda: LARGE)
    before = tiny.active_bytes()
    programs = [replace(one, spec=str(n)) for n in range(5)]
    bank.use(programs)
    taken = tiny.active_bytes() - before
    assert bank.nbytes <= taken <= 1.01 * bank.nbytes
    assert bank.resident_bytes(one) == bank.nbytes / 6  # five, and a slot of zeros
    assert 28 * bank.resident_bytes(one) <= 26e6


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16])
def test_packed_slots_are_the_files_numbers_bit_for_bit(dtype: mx.Dtype) -> None:
    groups, one = qwen3_layer()
    bank = Bank(groups, dtype, packed=True, max_bytes=lambda: LARGE)
    bank.use([replace(one), one])

    def numbers(arrays: list[mx.array]) -> np.ndarray:
        codes, scales, biases = (array[2] for array in arrays)
        wide = scales.astype(mx.float32), biases.astype(mx.float32)
        return np.array(mx.dequantize(codes, *wide, group_size=32, bits=4))

    for group in groups:
        pairs = [one.adapter.sites[site] for site in group.sites]
        assert np.array_equal(numbers(group.form.A), np.concatenate([p.A.dense() for p in pairs]))
        B = np.concatenate([p.scale * p.B.dense() for p in pairs])
        # A scale of f16 times alpha / r may be too small for f16, and is rounded there.
        close = np.array_equal if dtype == mx.float32 else lambda a, b: np.allclose(a, b, atol=2e-6)
        assert close(numbers(group.form.B).reshape(B.shape), B)


def test_a_program_that_comes_in_is_written_in_place() -> None:
    groups, one = qwen3_layer()
    bank = Bank(groups, mx.bfloat16, packed=True, max_bytes=lambda: LARGE)
    bank.use([replace(one, spec=str(n)) for n in range(40)])
    held = tiny.active_bytes()
    mx.reset_peak_memory()
    bank.use([replace(one, spec="new"), bare_like(one)])
    # Copying even one of the stacks would take 40 times a matrix.
    assert mx.get_peak_memory() - held < 3 * bank.resident_bytes(one)
    assert tiny.active_bytes() <= held + 4096


def bare_like(one: Program) -> Program:
    return replace(one, adapter=None)


# --- Coming and going --------------------------------------------------------------------


def test_programs_beyond_the_budget_leave_and_come_back_unnoticed(base: Base, make_bank) -> None:
    bank = make_bank()
    programs = [program(base, seed) for seed in range(6)]
    pairs = [[programs[i], programs[i - 1]] for i in range(6)]
    first = [run(base, bank, pair) for pair in pairs]
    assert bank.nbytes >= 7 * bank.resident_bytes(programs[0])  # nobody left
    assert len({scores.tobytes() for scores in first}) == 6
    max_bytes = 4 * bank.resident_bytes(programs[0])
    small = make_bank(max_bytes=max_bytes)
    assert small.fits(programs[:3])
    assert not small.fits(programs[:4])
    for turn in (3, 0, 5, 1, 4, 2, 2, 0):
        assert np.array_equal(run(base, small, pairs[turn]), first[turn])
        assert small.nbytes <= max_bytes


def test_the_least_recently_used_leaves(base: Base, make_bank, written) -> None:
    programs = [program(base, seed) for seed in range(4)]
    bank = make_bank()
    bank = make_bank(max_bytes=4 * bank.resident_bytes(programs[0]))
    for a, b in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 2)):
        bank.use([programs[a], programs[b]])
    # 1 made room for 3, and 0 and 2 stayed
    assert written == [one.adapter for one in programs]


def test_one_forward_pass_may_exceed_the_budget(base: Base, make_bank) -> None:
    programs = [program(base, seed) for seed in range(4)]
    expected = run(base, make_bank(), programs)
    bank = make_bank(max_bytes=1)
    assert bank.fits(programs[:1])
    assert not bank.fits(programs[:2])
    assert np.array_equal(run(base, bank, programs), expected)


def test_a_larger_rank_changes_nothing_for_the_others(base: Base, make_bank) -> None:
    bank = make_bank()
    small, large = [program(base, seed, 4) for seed in (1, 2)], program(base, 3, 32)
    first = run(base, bank, small)
    size = bank.resident_bytes(small[0])
    mixed = run(base, bank, [small[0], large])
    assert bank.resident_bytes(small[0]) == 8 * size
    np.testing.assert_allclose(mixed[0], first[0], atol=1e-5)
    np.testing.assert_allclose(run(base, bank, small), first, atol=1e-5)


def test_programs_that_nobody_holds_free_their_slots(base: Base, make_bank) -> None:
    bank, kept = make_bank(), [program(base, seed) for seed in (1, 2)]
    first = run(base, bank, kept)
    bank.use([*kept, program(base, 3), program(base, 4)])
    bank.use(kept)
    gc.collect()
    held = bank.nbytes
    bank.use([*kept, program(base, 5), program(base, 6)])
    assert bank.nbytes == held
    assert np.array_equal(run(base, bank, kept), first)
    del kept
    gc.collect()
    bank.use([program(base, seed) for seed in range(7, 12)])
    assert bank.nbytes == held


def test_a_new_program_is_never_taken_for_one_that_is_gone(base: Base, make_bank) -> None:
    bank, expected, got = make_bank(), [], []
    other = program(base, 99)
    for seed in range(5):  # each is likely to stand where the one before it stood
        one = program(base, seed)
        expected.append(alone(base, one, 0))
        got.append(run(base, bank, [one, other])[0])
        del one
    np.testing.assert_allclose(got, expected, atol=2e-4)


@pytest.mark.slow
def test_memory_is_flat_over_hundreds_of_switches(base: Base, make_bank) -> None:
    programs = [program(base, seed, rank) for seed, rank in enumerate((4, 8, 32, 4, 8, 4))]
    bank = make_bank()
    bank = make_bank(max_bytes=5 * bank.resident_bytes(programs[2]))
    chance, sizes = np.random.default_rng(0), []
    for turn in range(400):
        bank.use([programs[i] for i in chance.integers(0, 6, 1 + turn % 4)])
        if turn % 100 == 99:
            sizes.append(tiny.active_bytes())
    assert max(sizes) - min(sizes) < bank.resident_bytes(programs[0])


@pytest.mark.slow
def test_closing_gives_the_memory_back(base: Base, make_bank) -> None:
    bank = make_bank()
    before = tiny.active_bytes()
    bank.use([program(base, seed, 32) for seed in (1, 2)])
    assert tiny.active_bytes() > before
    bank.close()
    bank.close()
    assert (bank.nbytes, forms(base)) == (0, {type(None)})
    assert tiny.active_bytes() <= before + 4096


# --- Hot or not --------------------------------------------------------------------------


def test_the_first_program_is_hot_and_right(base: Base, make_bank) -> None:
    bank, one = make_bank(), program(base, 1)
    scores = run(base, bank, [one] * 3)
    assert forms(base) == {HotForm}
    assert bank.nbytes == 0
    np.testing.assert_allclose(scores, [alone(base, one, i) for i in range(3)], atol=2e-4)


def test_programs_that_alternate_stay_in_slots(base: Base, make_bank) -> None:
    bank, (a, b) = make_bank(), (program(base, 1), program(base, 2))
    bank.use([a])
    for _ in range(5):
        for _ in range(30):
            bank.use([b])
            assert forms(base) == {SlotForm}
        bank.use([a])
        assert forms(base) == {HotForm}  # still, and for nothing


def test_a_program_that_stays_alone_becomes_hot(base: Base, make_bank) -> None:
    bank, (a, b) = make_bank(), (program(base, 1), program(base, 2))
    bank.use([a])
    bank.use([b, b])
    assert forms(base) == {SlotForm}
    for rows in range(200):
        bank.use([b] * (1 + rows % 3))
    assert forms(base) == {HotForm}
    np.testing.assert_allclose(run(base, bank, [b])[0], alone(base, b, 0), atol=2e-4)
    bank.use([a])
    assert forms(base) == {SlotForm}


def test_mixed_batches_between_hot_ones_are_right(base: Base, make_bank) -> None:
    bank, (a, b) = make_bank(), (program(base, 1, 8), program(base, 2, 4))
    expected = {one: [alone(base, one, row) for row in (0, 1)] for one in (a, b, bare(base))}
    c = list(expected)[2]
    for pair in ([a, a], [a, b], [a, a], [c, c], [b, c], [b, b], [a, c], [a, a], [c, b]):
        wanted = [expected[one][row] for row, one in enumerate(pair)]
        np.testing.assert_allclose(run(base, bank, pair), wanted, atol=2e-4)


def test_nothing_is_done_where_nothing_changed(base: Base, make_bank) -> None:
    bank, programs = make_bank(), [program(base, 1), program(base, 2), bare(base)]
    bank.use(programs)
    before = [group.form.indices for group in base.groups]
    bank.use(list(programs))
    assert all(group.form.indices is b for group, b in zip(base.groups, before, strict=True))
    bank.use([programs[1], programs[0], programs[2]])
    assert base.groups[0].form.indices is not before[0]


def test_a_traced_forward_pass_runs_the_rows_of_its_own_indices(base: Base, make_bank) -> None:
    bank, (a, b) = make_bank(), (program(base, 1), program(base, 2))
    crossed = run(base, bank, [b, a])
    others = bank.indices
    straight = run(base, bank, [a, b])
    assert not np.allclose(crossed, straight, atol=0.1)
    with bank.traced(others):
        assert np.array_equal(forward(base, TOKENS[:2]), crossed)
    assert np.array_equal(forward(base, TOKENS[:2]), straight)
    bank.heat(a)
    assert bank.indices == []


def test_always_hot_keeps_every_program_to_itself(base: Base, make_bank) -> None:
    bank, (a, b) = make_bank(always_hot=True), (program(base, 1), program(base, 2))
    for one in (a, b, a):
        np.testing.assert_allclose(run(base, bank, [one])[0], alone(base, one, 0), atol=2e-4)
        assert (forms(base), bank.nbytes) == ({HotForm}, 0)


def test_heating_runs_any_number_of_rows(base: Base, make_bank) -> None:
    bank, (a, b) = make_bank(), (program(base, 1), program(base, 2))
    bank.use([a, b])
    for one in (b, a, bare(base)):
        bank.heat(one)
        scores = forward(base, TOKENS[:4])
        np.testing.assert_allclose(scores, [alone(base, one, i) for i in range(4)], atol=2e-4)
    np.testing.assert_allclose(run(base, bank, [b, a])[0], alone(base, b, 0), atol=2e-4)


def test_rows_are_right_after_heating_that_failed(base: Base, make_bank, monkeypatch) -> None:
    bank, (a, b), made = make_bank(), (program(base, 1), program(base, 2)), []
    pairs = ([a, b], [b, a])
    expected = [run(base, bank, pair) for pair in pairs]

    def refuse(*arguments: object) -> HotForm:
        made.append(arguments)
        if len(made) == 3:
            raise RuntimeError("out of memory")
        return HotForm(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("paw_mlx.interpreter.adapters.hot.HotForm", refuse)
        for before in pairs:
            run(base, bank, before)
            made.clear()
            with pytest.raises(RuntimeError, match="out of memory"):
                bank.heat(a)
            for pair, scores in zip(pairs, expected, strict=True):
                np.testing.assert_allclose(run(base, bank, pair), scores, atol=1e-5)
    bank.heat(a)
    np.testing.assert_allclose(forward(base, TOKENS[:1])[0], alone(base, a, 0), atol=2e-4)


# --- A budget that changes ---------------------------------------------------------------


@pytest.fixture
def budget() -> list[int]:
    """The bytes that a bank may take, to be changed while it runs."""
    return [LARGE]


@pytest.fixture
def shared(budget: list[int], make_bank) -> Bank:
    return make_bank(lambda: budget[0], packed=True)


def test_a_budget_is_asked_anew(base: Base, shared: Bank, budget: list[int]) -> None:
    programs = [program(base, seed) for seed in range(6)]
    assert shared.fits(programs)
    budget[0] = 4 * shared.resident_bytes(programs[0])
    assert not shared.fits(programs)
    for one, other in pairwise(programs):
        shared.use([one, other])
        assert shared.nbytes <= budget[0]
    budget[0] = LARGE
    shared.use(programs)
    assert shared.nbytes >= 7 * shared.resident_bytes(programs[0])


def test_trimming_lets_the_least_recently_used_go(base, shared, budget, written) -> None:
    programs = [program(base, seed) for seed in range(5)]
    first, last = run(base, shared, programs), run(base, shared, programs[2:4])
    size = shared.resident_bytes(programs[0])
    shared.trim()
    assert shared.nbytes == 6 * size  # there is room enough
    held = tiny.active_bytes()
    budget[0] = 3 * size + 1
    shared.trim()
    assert shared.nbytes == 3 * size
    assert held - tiny.active_bytes() > 2.5 * size  # MLX rounds small arrays up
    written.clear()
    assert np.array_equal(run(base, shared, programs[2:4]), last)
    assert written == []
    assert np.array_equal(run(base, shared, programs), first)
    assert len(written) == 3


def test_trimming_takes_from_what_does_not_run_first(base, shared, budget, written) -> None:
    packed, dense = (
        [program(base, seed, 32, dtype) for seed in (1, 2)] for dtype in ("q4_0", "f32")
    )
    first = {id(pair): run(base, shared, pair) for pair in (packed, dense)}
    budget[0] = 3 * shared.resident_bytes(dense[0])
    shared.trim()
    assert shared.nbytes == budget[0]
    written.clear()
    assert np.array_equal(run(base, shared, dense), first[id(dense)])
    assert written == []
    assert np.array_equal(run(base, shared, packed), first[id(packed)])
    assert written == [one.adapter for one in packed]


def test_a_row_without_an_adapter_stays_bare_after_trimming(base, shared, budget) -> None:
    programs = [program(base, seed) for seed in range(4)]
    run(base, shared, programs)
    pair = [programs[3], bare(base)]
    first = run(base, shared, pair)
    budget[0] = 2 * shared.resident_bytes(programs[0])
    shared.trim()
    assert np.array_equal(run(base, shared, pair), first)


def test_trimming_to_nothing_is_noticed_by_nobody(base, shared, budget) -> None:
    programs, one = [program(base, seed) for seed in (1, 2)], program(base, 3)
    rows, hot = run(base, shared, programs), alone(base, one, 0)
    budget[0] = 0
    for _ in range(2):
        shared.trim()
        assert shared.nbytes == 0
        assert np.array_equal(run(base, shared, programs), rows)
    shared.heat(one)
    shared.trim()
    assert forms(base) == {HotForm}
    np.testing.assert_allclose(forward(base, TOKENS[:1])[0], hot, atol=2e-4)
