"""Keys and values: rows in slots see what each sees alone, wherever they are and move to."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest

from paw_mlx.interpreter.engine.kv import BLOCK, KV, Slots

HEADS, DIM, LAYERS = 2, 4, 2
ROW_BYTES = 4 * 2 * LAYERS * HEADS * DIM  # of a token, float32


def random_layer(rows: int, tokens: int) -> tuple[mx.array, mx.array]:
    """Keys and values of new tokens."""
    shape = rows, HEADS, tokens, DIM
    return mx.random.normal(shape), mx.random.normal(shape)


def prefix_of(tokens: int) -> KV:
    return KV.of([random_layer(1, tokens) for _ in range(LAYERS)])


def same(a: mx.array, b: mx.array) -> bool:
    return a.shape == b.shape and bool(mx.array_equal(a, b))


def assert_held(slots: Slots, slot: int, alone: KV) -> None:
    """A slot begins with what a row alone has."""
    assert len(slots.arrays) == len(alone.arrays) == 2 * LAYERS
    for buffer, expected in zip(slots.arrays, alone.arrays, strict=True):
        assert same(buffer[slot : slot + 1, :, : alone.offset], expected)


def step(slots: Slots, start: int, alone: Sequence[KV], tokens: int) -> None:
    """Let rows from a slot on take new tokens, and each of them alone the same."""
    offsets = [kv.offset for kv in alone]
    view = slots.view(start, offsets)
    positions = np.array(offsets)[:, None] + np.arange(tokens)
    assert np.array(view.positions(tokens)).tolist() == positions.tolist()
    mask = view.mask(tokens)
    for layer in range(LAYERS):
        k, v = random_layer(len(alone), tokens)
        keys, values = view.update(layer, k, v)
        assert keys.shape == values.shape == (len(alone), HEADS, max(offsets) + tokens, DIM)
        for row, kv in enumerate(alone):
            whole = kv.update(layer, k[row : row + 1], v[row : row + 1])
            seen = keys[row : row + 1], values[row : row + 1]
            for found, expected in zip(seen, whole, strict=True):
                assert same(found[:, :, : kv.offset + tokens], expected)
    if len(alone) > 1:
        sees = np.arange(max(offsets) + tokens) <= positions[:, :, None]
        assert np.array(mask).tolist() == sees[:, None].tolist()
    else:
        assert mask == alone[0].mask(tokens) == ("causal" if tokens > 1 else None)
    view.advance(tokens)
    for row, kv in enumerate(alone):
        kv.advance(tokens)
        assert np.array(view.positions(1))[row].tolist() == np.array(kv.positions(1)).tolist()
        assert kv.offset == offsets[row] + tokens


def begun(lengths: Sequence[int], capacity: int = 2 * BLOCK) -> tuple[Slots, list[KV], list[KV]]:
    """Slots with a prefix in each, the prefixes, and rows alone that go on from them."""
    slots, prefixes = Slots(LAYERS), [prefix_of(length) for length in lengths]
    slots.reserve(len(lengths), capacity)
    for slot, prefix in enumerate(prefixes):
        slots.load(slot, prefix)
    return slots, prefixes, [prefix.fork() for prefix in prefixes]


def test_rows_of_several_lengths_see_what_each_sees_alone():
    slots, prefixes, alone = begun([3, 9, 1])
    for tokens in (4, 1, 2):
        step(slots, 0, alone, tokens)
    step(slots, 1, alone[1:2], 1)
    step(slots, 2, alone[2:], 3)
    step(slots, 1, alone[1:], 2)
    for slot, kv in enumerate(alone):
        assert_held(slots, slot, kv)
    assert [prefix.offset for prefix in prefixes] == [3, 9, 1]  # which were not written into


def test_slots_are_whole_blocks_and_grow_with_what_they_hold():
    slots = Slots(LAYERS)
    slots.reserve(1, 1)
    assert (slots.rows, slots.capacity, slots.nbytes) == (1, BLOCK, 0)  # made when written
    prefix = prefix_of(BLOCK)
    slots.load(0, prefix)
    assert slots.nbytes == BLOCK * ROW_BYTES
    for rows, capacity in ((2, BLOCK), (2, BLOCK + 1), (1, 5), (3, 2 * BLOCK)):
        slots.reserve(rows, capacity)
        assert_held(slots, 0, prefix)
        assert slots.nbytes == slots.rows * slots.capacity * ROW_BYTES
    assert (slots.rows, slots.capacity) == (3, 2 * BLOCK)
    assert not any(buffer[1:].any() for buffer in slots.arrays)


def test_longer_slots_are_made_for_the_rows_that_need_them_alone():
    slots, _, alone = begun([2, 3, 4], BLOCK)
    slots.reserve(2, BLOCK + 1)
    assert (slots.rows, slots.capacity) == (2, 2 * BLOCK)
    for slot in (0, 1):
        assert_held(slots, slot, alone[slot])
    slots.reserve(3, BLOCK)
    again = prefix_of(4)
    slots.load(2, again)
    assert_held(slots, 2, again)


def test_what_is_trimmed_is_lost_and_the_rest_stays():
    slots, prefixes, alone = begun([BLOCK + 1, 5, 7])
    slots.trim(9, 9 * BLOCK)  # there is less
    assert (slots.rows, slots.capacity) == (3, 2 * BLOCK)
    slots.trim(2, 9 * BLOCK)
    assert slots.nbytes == 2 * 2 * BLOCK * ROW_BYTES
    slots.trim(2, BLOCK)
    assert (slots.rows, slots.capacity, slots.nbytes) == (2, BLOCK, 2 * BLOCK * ROW_BYTES)
    assert_held(slots, 1, alone[1])
    slots.trim(3, 1)
    assert (slots.rows, slots.capacity) == (2, BLOCK)
    slots.reserve(3, 2 * BLOCK)
    for slot in (2, 0):
        slots.load(slot, prefixes[slot])
    for slot, kv in enumerate(alone):
        assert_held(slots, slot, kv)


@pytest.mark.parametrize(("length", "blocks"), [(3, 2), (BLOCK, 2), (BLOCK + 1, 3)])
def test_at_rest_the_first_prefix_stays_with_room_for_an_input(length, blocks):
    slots, _, alone = begun([length, 4], 5 * BLOCK)
    slots.rest()
    assert (slots.rows, slots.capacity) == (1, blocks * BLOCK)
    assert_held(slots, 0, alone[0])
    slots.wipe(0)
    slots.rest()
    assert slots.capacity == BLOCK
    slots.clear()
    slots.rest()
    assert (slots.rows, slots.capacity, slots.nbytes) == (0, 0, 0)


def test_slots_that_were_cleared_are_made_anew():
    slots, prefixes, alone = begun([3, 2])
    slots.clear()
    assert (slots.rows, slots.capacity, slots.arrays) == (0, 0, [])
    slots.reserve(2, BLOCK)
    slots.load(1, prefixes[1])
    assert_held(slots, 1, alone[1])


class Silent(KV):
    """A prefix with the identity of another, whose numbers must not be read again."""

    def __init__(self, of: KV) -> None:
        super().__init__(0)
        self.identity, self.offset = of.identity, of.offset
        self.layers = [(layer[0] + 1, layer[1] + 1) for layer in of.layers if layer]


def test_other_buffers_take_the_place_of_those_there_are():
    slots, prefixes, alone = begun([3, 2])
    others, _, _ = begun([4, 5])
    slots.replace(others.arrays)
    assert all(map(same, slots.arrays, others.arrays))
    slots.wipe(0)
    slots.load(0, prefixes[0])
    assert_held(slots, 0, alone[0])


def test_a_slot_takes_a_prefix_once_until_it_is_wiped():
    slots, prefixes, alone = begun([3, 5])
    slots.load(0, Silent(prefixes[0]))
    assert_held(slots, 0, alone[0])
    slots.wipe(0, 3)  # behind the prefix
    slots.load(0, Silent(prefixes[0]))
    assert_held(slots, 0, alone[0])
    slots.load(1, prefixes[0])
    assert_held(slots, 1, alone[0])
    slots.load(1, prefixes[1])
    assert_held(slots, 1, alone[1])
    slots.wipe(0)
    assert not any(buffer[0].any() for buffer in slots.arrays)
    assert_held(slots, 1, alone[1])
    slots.load(0, prefixes[0])
    assert_held(slots, 0, alone[0])


def test_wiping_leaves_what_is_before_and_the_rows_beside():
    slots, _, alone = begun([3, 4, 5])
    step(slots, 0, alone, 6)
    slots.wipe(1, 4)
    for slot in (0, 2):
        assert_held(slots, slot, alone[slot])
    for buffer, row in zip(slots.arrays, alone[1].arrays, strict=True):
        assert same(buffer[1:2, :, :4], row[:, :, :4])
        assert not buffer[1, :, 4:].any()


def test_rows_go_on_where_they_are_moved_to():
    slots, prefixes, alone = begun([3, 4, 3, 6])
    step(slots, 0, alone, 5)
    slots.move([3, 2], [0, 1], 11)
    alone = [alone[3], alone[2]]
    for slot, kv in enumerate(alone):
        assert_held(slots, slot, kv)
    step(slots, 0, alone, 2)
    slots.load(1, Silent(prefixes[2]))  # it came along
    for slot, kv in enumerate(alone):
        assert_held(slots, slot, kv)


def test_a_prefix_that_is_there_already_is_not_moved():
    slots, (prefix, _, _), _ = begun([3, 1, 1])
    slots.load(1, prefix)
    slots.load(2, prefix)
    alone = [prefix.fork() for _ in range(3)]
    step(slots, 0, alone, 5)
    for buffer in slots.arrays:
        buffer[2, :, :3] = 0
    slots.move([2], [0], 8)
    assert_held(slots, 0, alone[2])


def test_a_fork_goes_on_by_itself():
    prefix = prefix_of(3)
    fork, other = prefix.fork(), prefix.fork()
    for kv in (fork, other):
        kv.update(0, *random_layer(1, 2))
        kv.advance(2)
    assert (prefix.offset, fork.offset) == (3, 5)
    assert [array.shape[2] for array in prefix.arrays] == [3] * 2 * LAYERS
    assert not same(fork.arrays[0], other.arrays[0])
    assert fork.identity is not other.identity is not prefix.identity


def test_what_nothing_was_seen_of_has_nothing():
    kv = KV(LAYERS)
    assert (kv.offset, kv.arrays, kv.nbytes) == (0, [], 0)
    k, v = random_layer(1, 2)
    assert all(same(*pair) for pair in zip(kv.update(1, k, v), (k, v), strict=True))
    assert kv.nbytes == 2 * ROW_BYTES // LAYERS


def test_one_row_is_seen_as_several():
    prefix = prefix_of(3)
    repeated = prefix.repeated(2)
    assert repeated.offset == 3
    for array, one in zip(repeated.arrays, prefix.arrays, strict=True):
        assert same(array, mx.concatenate([one, one]))
