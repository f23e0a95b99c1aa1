"""Numbers and texts as people read them."""

from __future__ import annotations

import json

import pytest

from paw_mlx.words import counted, harmless, megabytes


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234, "1,234 rows")]
)
def test_a_noun_follows_its_number(number: int, text: str) -> None:
    assert counted(number, "row") == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0 MB"), (1, "0.1 MB"), (98_362_432, "98.4 MB"), (8_700_000_000, "8,700.0 MB")],
)
def test_a_size_is_in_megabytes_and_never_nothing(size: int, text: str) -> None:
    assert megabytes(size) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two\r\n\tlines",
        "日本語 à\xa0la\u202fcarte",
        "می\u200cخواهم",
        "👩\u200d👩\u200d👧 ☺\ufe0f",
    ],
    ids=["nothing", "lines", "spaces", "a joiner", "emoji"],
)
def test_what_people_write_is_harmless(text: str) -> None:
    assert harmless(text) == text


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert harmless("\x1b[2J\x07\rx\x9b1m\u202e") == r"\u001b[2J\u0007\rx\u009b1m\u202e"
    assert harmless("\r\r\n\ud800\U000e0041") == "\\r\r\n\\ud800\\udb40\\udc41"


def test_no_control_is_left_and_json_stays_what_it_was() -> None:
    characters = "".join(
        map(chr, [*range(0xD800), *range(0xE000, 0x11000), *range(0xE0000, 0xE0200)])
    )
    left = harmless(characters)
    assert [c for c in left if ord(c) < 32 or 127 <= ord(c) < 160] == ["\t", "\n"]
    assert not {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"} & {*left}
    record = json.dumps({"text": characters}, ensure_ascii=False)
    assert json.loads(harmless(record)) == {"text": characters}
