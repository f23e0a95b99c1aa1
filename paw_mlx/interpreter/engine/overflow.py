"""Inputs beyond the window: an error, or the part that fits.

What is kept is the input's head, its tail, or both without the middle, cut between characters,
and is tokenized again: the tokens of a part are not part of the tokens. The template's suffix
stays whole. The work is bounded by the room, not by the input: of a very long one only what
may be kept is tokenized, and the tokens left out are estimated.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple, NoReturn

from ...errors import InputTooLong
from ..base.tokenizer import Tokenizer

_CHARS = 16  # a part of so many characters a token is nearly always more tokens than asked for
_SLACK = 64  # tokens that the end of a text may save on those before it, by far
_LONGEST = 64  # code points of one character
_JOINER, _SKIN_TONES, _FLAGS = "\u200d", range(0x1F3FB, 0x1F400), range(0x1F1E6, 0x1F200)


class _Size(NamedTuple):
    """How many tokens an input and its suffix are; an estimate if only a part was tokenized."""

    num_tokens: int
    is_exact: bool

    def __str__(self) -> str:
        return f"{'' if self.is_exact else 'about '}{self.num_tokens}"


def fit(
    tokenizer: Tokenizer,
    text: str,
    suffix: str,
    room: int,
    policy: str,
    *,
    cut_to: int | None = None,
    prefix_tokens: int = 0,
    reserve: int = 0,
) -> tuple[list[int], int]:
    """Return the tokens of an input and the suffix, at most `room`, and how many were cut.

    `policy` is what is kept of an input that is longer: its `head`, its `tail`, both (`middle`
    is what goes), or nothing (`error`). At most `cut_to` tokens are left then. InputTooLong if
    there is no room for any of it; the tokens of the prefix and the output `reserve` are the
    other part of the window.
    """
    tokens, size = _measure(tokenizer, text, suffix, room)
    if size.num_tokens <= room:
        return tokens, 0
    most = room if cut_to is None else cut_to
    spare = most - len(tokenizer.encode_input("", suffix))
    if policy != "error" and spare > 0:
        kept = _keep(tokenizer, text, suffix, most, spare, policy)
        if kept:
            return kept, size.num_tokens - len(kept)
    _refuse(size, room, prefix_tokens, reserve)


def _refuse(size: _Size, room: int, prefix_tokens: int, reserve: int) -> NoReturn:
    raise InputTooLong(
        f"{prefix_tokens} prefix + {size} input + {reserve} output tokens "
        f"exceed the window of {prefix_tokens + room + reserve}",
        hint="Shorten the input, let `overflow` cut it, or lower max_tokens if you set it.",
    )


def _measure(tokenizer: Tokenizer, text: str, suffix: str, room: int) -> tuple[list[int], _Size]:
    """Return the tokens of an input that may fit, and how many there are."""
    chars = _CHARS * max(room, _SLACK)
    while chars < len(text):
        found = len(tokenizer.encode(text[:chars]))
        if found > room + _SLACK:
            return [], _Size(found * len(text) // chars, is_exact=False)
        chars *= 4
    tokens = tokenizer.encode_input(text, suffix)
    return tokens, _Size(len(tokens), is_exact=True)


def _keep(
    tokenizer: Tokenizer, text: str, suffix: str, room: int, spare: int, policy: str
) -> list[int]:
    """Return the tokens of the part that fits, with the suffix; none if not a character does."""
    ends = _find_ends(tokenizer, text, spare) if policy != "tail" else [0]
    starts = _find_starts(tokenizer, text, spare) if policy != "head" else [len(text)]
    for attempt in range(spare.bit_length() + 1):
        in_tail = {"head": 0, "tail": spare, "middle": spare // 2}[policy]
        end = _align(text, ends[min(spare - in_tail, len(ends) - 1)], -1)
        start = _align(text, max(end, starts[min(in_tail, len(starts) - 1)]), 1)
        part = text[:end] + text[start:]
        tokens = tokenizer.encode_input(part, suffix) if part else []
        if len(tokens) <= room:
            return tokens
        spare = max(0, spare - (len(tokens) - room << attempt))  # the seams may cost some more
    return []


def _find_ends(tokenizer: Tokenizer, text: str, count: int) -> list[int]:
    """Find where the first 0, 1, 2 ... `count` tokens end: where the next one begins."""
    chars = _CHARS * count
    while len(spans := tokenizer.spans(text[:chars])) <= count and chars < len(text):
        chars *= 4
    return [*(start for start, _ in spans[: count + 1]), *([len(text)] * (chars >= len(text)))]


def _find_starts(tokenizer: Tokenizer, text: str, count: int) -> list[int]:
    """Find where the last 0, 1, 2 ... `count` tokens start: where the one before them ends."""
    chars = _CHARS * count
    while len(spans := tokenizer.spans(text[-chars:])) <= count and chars < len(text):
        chars *= 4
    before = max(0, len(text) - chars)
    return [*(before + end for _, end in spans[: -count - 2 : -1]), before]


def _align(text: str, at: int, step: int) -> int:
    """Find the next place from `at` on, in steps of -1 or 1, that is not inside a character.

    What goes on for longer than any character of a language is cut where it is.
    """
    place = at
    for _ in range(_LONGEST):
        if not 0 < place < len(text) or not _is_inside(text, place):
            return place
        place += step
    return at


def _is_inside(text: str, at: int) -> bool:
    """Return whether a reader's character goes on at `at`: accents, emoji, flags, CR LF."""
    before, after = text[at - 1], text[at]
    if ord(after) in _FLAGS and ord(before) in _FLAGS:
        first = at
        while first and ord(text[first - 1]) in _FLAGS:
            first -= 1
        return (at - first) % 2 == 1
    return (
        unicodedata.category(after).startswith("M")
        or _JOINER in (before, after)
        or ord(after) in _SKIN_TONES
        or (before, after) == ("\r", "\n")
    )
