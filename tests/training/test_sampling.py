"""What a step is made of: by seed and number alone, balanced, and nothing shown that is asked."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest
import tiny
import toy_compilers as toy

from paw_mlx import OptionError
from paw_mlx.cases import Case
from paw_mlx.interpreter.models.load import load_base
from paw_mlx.training.sampling import choose

STEPS = 24


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(tiny.write_base(tmp_path_factory.mktemp("sampling") / "base", "llama"))


def test_a_batch_follows_from_the_seed_and_its_number(base):
    one = toy.sampler(base)
    drawn = [one.batch(number) for number in range(1, STEPS + 1)]
    assert toy.sampler(base).batch(7) == drawn[6]
    backwards = toy.sampler(base)
    assert [backwards.batch(n) for n in range(STEPS, 0, -1)] == drawn[::-1]
    other = toy.sampler(base, seed=1)
    assert [other.batch(number) for number in range(1, STEPS + 1)] != drawn
    assert len({str(batch) for batch in drawn}) == STEPS


def test_an_epoch_takes_every_function_once(base):
    sampler = toy.sampler(base)
    owners = {spec: each.name for each in toy.FUNCTIONS for spec in each.specs}
    for first in (1, 3, 5):
        batches = [sampler.batch(first), sampler.batch(first + 1)]
        names = [owners[drawn.spec] for batch in batches for drawn in batch]
        assert sorted(names) == sorted(each.name for each in toy.FUNCTIONS)
    seen = {drawn.spec for n in range(1, STEPS + 1) for drawn in sampler.batch(n)}
    assert seen == set(owners)  # each of a function's specs has its turn


def test_labels_balance_and_rare_ones_come_up():
    cases = [Case(str(n), "yes" if n % 8 == 0 else "no") for n in range(64)]
    for seed in range(20):
        chosen = choose(cases, 6, Random(seed))
        assert Counter(case.output for case in chosen) == {"yes": 3, "no": 3}
        assert len(set(chosen)) == 6
    assert len(choose(cases, 100, Random(0))) == 64  # no more than there are
    rest = choose(cases, 20, Random(0))
    assert Counter(case.output for case in rest) == {"yes": 8, "no": 12}


def test_a_batch_holds_as_many_cases_as_asked(base):
    sampler = toy.sampler(base, batch=8, max_tokens=1000)
    for number in range(1, STEPS + 1):
        for drawn in sampler.batch(number):
            assert len(drawn.cases) == 4
            assert len({str(case) for case in drawn.cases}) == 4
            assert all(output[-1] == base.end for _, output in drawn.cases)


def test_cases_beyond_the_room_are_left_out_but_the_first(base):
    def sizes(max_tokens: int) -> list[tuple[int, int]]:
        sampler = toy.sampler(base, batch=8, max_tokens=max_tokens)
        return [
            (len(drawn.cases), len(drawn.prompt) + sum(len(i) + len(o) for i, o in drawn.cases))
            for number in range(1, STEPS + 1)
            for drawn in sampler.batch(number)
        ]

    assert {num for num, _ in sizes(1)} == {1}
    tight = sizes(180)
    assert all(num == 1 or length <= 180 for num, length in tight)
    assert len({num for num, _ in tight}) > 1


def test_what_a_prompt_shows_is_never_asked(base):
    sampler, num_shown = toy.sampler(base, batch=16, max_tokens=10**6), 0
    texts = {case.input for each in toy.FUNCTIONS for case in each.cases}
    for number in range(1, 2 * STEPS + 1):
        for drawn in sampler.batch(number):
            shown = re.findall(r"Input: (.*)\nOutput: ", base.tokenizer.decode(drawn.prompt))
            asked = [base.tokenizer.decode(text).partition("\n")[0] for text, _ in drawn.cases]
            assert set(shown) | set(asked) <= texts  # both are read right
            assert not set(shown) & set(asked)
            num_shown += bool(shown)
    assert 0.15 < num_shown / (4 * STEPS) < 0.5


def test_fewer_functions_than_a_step_takes_are_refused(base):
    with pytest.raises(OptionError, match="a step takes 5 functions, and there are 4"):
        toy.sampler(base, functions_per_batch=5, batch=5)
