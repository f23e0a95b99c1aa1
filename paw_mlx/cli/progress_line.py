"""The line that says how far a run over rows is, drawn on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable

from ..errors import PawError
from ..rows.tally import Tally
from .voice import StatusLine, left, say


class ProgressLine:
    """The line of a tally of rows, or what they are called: drawn if `live`, on a terminal.

    `total` says how many there will be, as far as is known.
    """

    def __init__(
        self,
        noun: str,
        tally: Tally,
        live: bool,
        total: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._noun, self._tally, self._total, self._live = noun, tally, total, live

    def update(self) -> None:
        """Draw the line, unless one was drawn just now."""
        if self._live:
            StatusLine.draw(self._text())

    def say_error(self, number: int, error: PawError, as_json: bool) -> None:
        """Print a row's error, where the output has no place for it."""
        if as_json:
            record = {"row": number, "error": error.record()}
            say(json.dumps(record, ensure_ascii=False))
        else:
            say(f"{self._noun} {number}: {error}")

    def clear(self) -> None:
        """Wipe the line away."""
        StatusLine.wipe()

    def _text(self) -> str:
        tally, noun, total = self._tally, self._noun, self._total()
        of = "" if total is None else f"/{total:,}"
        parts = [f"{tally.num_rows:,}{of} {noun}s", f"{tally.rows_s:.1f} {noun}s/s"]
        if total:
            parts.append(left(tally.seconds, tally.num_rows / total))
        parts += notes(tally)
        if tally.num_failed:
            parts.append(f"{tally.num_failed:,} failed")
        return "  ".join(parts)


def notes(tally: Tally) -> list[str]:
    """Say what else there is to a run: repeated rows, cut inputs, abstentions, cut outputs."""
    found = []
    if tally.num_repeated:
        found.append(f"{tally.num_repeated:,} repeated")
    if tally.num_cut:
        found.append(f"{tally.num_cut:,} cut by {tally.cut_tokens:,} tokens")
    if tally.num_abstained:
        found.append(f"{tally.num_abstained:,} abstained")
    if tally.num_unended:
        found.append(unended(tally.num_unended))
    return found


def unended(number: int) -> str:
    """Say that so many outputs are not whole."""
    verb = "output was" if number == 1 else "outputs were"
    return f"{number:,} {verb} cut before the end (--max-tokens)"
