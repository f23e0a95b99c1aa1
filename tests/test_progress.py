"""Progress: a line for everyone, numbers for who wants them."""

from __future__ import annotations

from paw_mlx.progress import advance, quiet


class Bar:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def __call__(self, message: str, /) -> None:
        self.heard.append(message)

    def advance(self, done: float, total: float) -> None:
        self.heard.append((done, total))


def test_who_has_a_bar_hears_numbers_and_others_the_line() -> None:
    bar, lines = Bar(), list[str]()
    for progress in (bar, lines.append, quiet):
        advance(progress, 1, 3, "layer 1 of 3")
        advance(progress, 3, 3)
    assert bar.heard == [(1, 3), (3, 3)]
    assert lines == ["layer 1 of 3"]
