"""Numbers as people read them."""

from __future__ import annotations

import pytest

from paw_mlx.words import counted, megabytes


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
