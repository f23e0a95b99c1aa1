"""Inputs beyond the window: what is kept fits to the token, and is whole characters."""

from __future__ import annotations

import random

import pytest
import tiny
from tokenizers import models

from paw_mlx.errors import InputTooLong
from paw_mlx.interpreter.base.tokenizer import Tokenizer
from paw_mlx.interpreter.engine.overflow import fit

SUFFIX = "\n[END]<|im_end|>\n"
FAMILY, FLAG, E_ACUTE = "👩‍👩‍👧", "🇩🇪", "e\u0301"
POLICIES = ["head", "tail", "middle"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny.tokenizer())


def kept(tokenizer: Tokenizer, tokens: list[int], suffix: str = SUFFIX) -> str:
    """The input's part, read back; control tokens stay in sight."""
    text = tokenizer._tokenizer.decode(tokens, skip_special_tokens=False)
    assert text.endswith(suffix)
    return text.removesuffix(suffix)


def test_what_fits_is_left_alone(tokenizer):
    text = "the disk is full"
    tokens = tokenizer.encode_input(text, SUFFIX)
    for policy in ["error", *POLICIES]:
        assert fit(tokenizer, text, SUFFIX, len(tokens), policy) == (tokens, 0)
        assert fit(tokenizer, text, SUFFIX, 10_000, policy) == (tokens, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_only_what_does_not_fit_is_cut_further(tokenizer, policy):
    text = "disk full " * 20
    whole = tokenizer.encode_input(text, SUFFIX)
    room = len(whole)
    assert fit(tokenizer, text, SUFFIX, room, policy, cut_to=room - 9) == (whole, 0)
    tokens, cut = fit(tokenizer, text, SUFFIX, room - 1, policy, cut_to=room - 9)
    assert room - 12 < len(tokens) <= room - 9
    assert cut == room - len(tokens)


def test_each_policy_keeps_its_part(tokenizer):
    words = [f"word{i}" for i in range(100)]
    text = " ".join(words)
    parts = {p: kept(tokenizer, fit(tokenizer, text, SUFFIX, 60, p)[0]) for p in POLICIES}
    assert text.startswith(parts["head"])
    assert text.endswith(parts["tail"])
    middle = parts["middle"]
    assert middle.startswith("word0 word1")
    assert middle.endswith("word98 word99")
    head = len(middle) // 2
    assert all(len(part) > 40 for part in parts.values())
    assert text.startswith(middle[: head - 10])
    assert text.endswith(middle[head + 10 :])


@pytest.mark.parametrize("policy", POLICIES)
def test_the_tokens_of_the_part_fit_and_the_cut_ones_are_counted(tokenizer, policy):
    chance = random.Random(7)
    pool = [
        "the server ",
        "disk",
        "\n",
        "\r\n",
        "世界",
        FAMILY,
        FLAG,
        E_ACUTE,
        "👍🏽",
        "0123",
        "   ",
    ]
    num_cut = 0
    for _ in range(300):
        text = "".join(chance.choices(pool, k=chance.randrange(8, 60)))
        room = chance.randrange(60, 160)
        whole = tokenizer.encode_input(text, SUFFIX)
        tokens, cut = fit(tokenizer, text, SUFFIX, room, policy)
        assert cut == max(0, len(whole) - len(tokens))
        assert len(tokens) == len(whole) if len(whole) <= room else len(tokens) <= room
        part = kept(tokenizer, tokens)
        assert tokenizer.encode_input(part, SUFFIX) == tokens
        num_cut += cut > 0
    assert num_cut > 100


@pytest.mark.parametrize("policy", POLICIES)
def test_a_seam_that_takes_more_tokens_than_its_sides_is_paid_for(tokenizer, policy):
    """`icnic` after ` on` takes more tokens than the two apart."""
    chance = random.Random(1)
    words = " ".join(tiny.TEXT).split()
    for _ in range(1500):
        pieces = [chance.choice(words)[: chance.randrange(1, 7)] for _ in range(16)]
        text = "".join(piece + chance.choice([" ", ""]) for piece in pieces)
        room = chance.randrange(8, 20)
        assert len(fit(tokenizer, text, "icnic", room, policy)[0]) <= room


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("character", ["世", "🙂", FAMILY, FLAG, E_ACUTE, "👍🏽", "\r\n"])
def test_no_character_is_cut(tokenizer, policy, character):
    """Most of these are several tokens each, and several code points."""
    text = character * 80
    rooms = range(30 + len(tokenizer.encode(SUFFIX)), 30 + len(tokenizer.encode(SUFFIX)) + 30)
    for room in rooms:
        part = kept(tokenizer, fit(tokenizer, text, SUFFIX, room, policy)[0])
        assert part
        assert part == character * (len(part) // len(character))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_room_is_used_up(tokenizer, policy):
    text = "x7 " * 500
    for room in range(40, 60):
        assert room - 2 <= len(fit(tokenizer, text, SUFFIX, room, policy)[0]) <= room


def test_the_suffix_is_whole_or_it_is_an_error(tokenizer):
    num_suffix = len(tokenizer.encode_input("", SUFFIX))
    tokens, _ = fit(tokenizer, "z" * 50, SUFFIX, num_suffix + 3, "head")
    assert kept(tokenizer, tokens) == "zzz"
    for room in (num_suffix, num_suffix - 1, 1, 0, -5):
        with pytest.raises(InputTooLong):
            fit(tokenizer, "z" * 50, SUFFIX, room, "head")
    with pytest.raises(InputTooLong):  # room for a part of the character
        fit(tokenizer, FAMILY * 9, SUFFIX, num_suffix + 5, "tail")


def test_control_tokens_in_an_input_stay_text_when_it_is_cut(tokenizer):
    tokens, cut = fit(tokenizer, "<|im_end|>" * 40, "\n", 100, "tail")
    assert cut > 0
    assert tokenizer.ids(["<|im_end|>"])[0] not in tokens


def test_an_error_says_the_numbers(tokenizer):
    text = "the disk is full " * 9
    num_input = len(tokenizer.encode_input(text, SUFFIX))
    with pytest.raises(InputTooLong) as caught:
        fit(tokenizer, text, SUFFIX, num_input - 1, "error", prefix_tokens=20, reserve=9)
    assert str(caught.value) == (
        f"20 prefix + {num_input} input + 9 output tokens "
        f"exceed the window of {20 + num_input - 1 + 9}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("text", ["the server is down. ", "a", "🙂", "e\u0301", FLAG, "世"])
def test_the_work_on_a_huge_input_depends_on_the_room_alone(tokenizer, policy, text, monkeypatch):
    huge = text * (200_000 // len(text))
    read, tokenize = [], tokenizer._tokenize  # the one place that all text goes through

    def count(text: str, control: bool) -> object:
        read.append(text)
        return tokenize(text, control)

    monkeypatch.setattr(tokenizer, "_tokenize", count)
    tokens, cut = fit(tokenizer, huge, SUFFIX, 120, policy)
    assert sum(map(len, read)) < 40_000
    assert 110 <= len(tokens) <= 120
    exact = len(tokenize(huge, False).ids) + len(tokenizer.encode(SUFFIX, control=True))
    assert cut == pytest.approx(exact - len(tokens), rel=0.05)


def test_a_huge_input_that_is_refused_says_about_how_long_it_is(tokenizer):
    with pytest.raises(InputTooLong, match=r"^5 prefix \+ about \d{6} input \+ 1 output"):
        fit(tokenizer, "spring " * 100_000, SUFFIX, 120, "error", prefix_tokens=5, reserve=1)


def test_a_long_input_of_few_tokens_fits():
    """Some vocabularies have tokens for long runs: the start of one takes more than the whole."""
    made = tiny.tokenizer()
    runs = ["=" * 2**i for i in range(12)]
    merges = [(run, run) for run in runs[:-1]]
    made.model = models.BPE({run: i for i, run in enumerate([*runs, "x"])}, merges)
    wide = Tokenizer(made)
    for count in (1, 2, 30):
        text = "x" + runs[-1] * count
        assert fit(wide, text, "", count + 1, "error") == ([12, *[11] * count], 0)
    for policy in POLICIES:
        tokens, cut = fit(wide, text, "", 10, policy)
        assert (len(tokens), cut) == (10, 21)
