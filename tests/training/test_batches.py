"""What a step is made of: classes and shapes in turn, and every row once before any twice."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from paw_mlx.cases import Case
from paw_mlx.training.batches import balanced, classes

QUIET = [Case(f"line {'abcdefghij'[i % 10]}{i}", "QUIET") for i in range(931)]
ALERT = [Case(f"fault {i}", "ALERT") for i in range(69)]


def draw(rows, num, seed=0):
    return list(islice(balanced(rows, 8, seed), num))


def test_what_is_rare_is_in_every_batch_and_a_row_comes_once_before_any_comes_twice():
    batches = draw(QUIET + ALERT, 240)
    assert {len(batch) for batch in batches} == {8}
    counts = [Counter(case.output for case in batch)["ALERT"] for batch in batches]
    assert min(counts) >= 1
    share = 69**0.5 / (69**0.5 + 931**0.5)
    assert abs(sum(counts) / (8 * 240) - share) < 0.01
    drawn = [case for batch in batches for case in batch]
    times = Counter(case for case in drawn if case.output == "ALERT").values()
    assert len(times) == 69
    assert max(times) - min(times) <= 1


def test_a_line_that_comes_with_many_numbers_does_not_crowd_out_the_others():
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    rare = [Case(f"fault in {word}", "QUIET") for word in words]
    drawn = [
        c
        for batch in draw([*rare, *(Case(f"core.{i}", "QUIET") for i in range(900))], 130)
        for c in batch
    ]
    counts = Counter("rare" if case in rare else "common" for case in drawn)
    assert abs(counts["rare"] / len(drawn) - 100 / 130) < 0.02
    assert set(rare) <= set(drawn)


def test_texts_are_no_classes():
    texts = [Case(f"word {i:b}".replace("1", "x").replace("0", "o"), f"w{i}") for i in range(50)]
    texts += [Case(f"name {i:b}".replace("1", "x").replace("0", "o"), "") for i in range(50)]
    assert classes(texts) == [texts]
    drawn = [case for batch in draw(texts, 100) for case in batch]
    assert abs(sum(case.output == "" for case in drawn) / 800 - 0.5) < 0.03


def test_batches_follow_from_the_seed():
    assert draw(QUIET, 9) == draw(QUIET, 9) != draw(QUIET, 9, seed=1)
