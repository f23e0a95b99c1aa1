"""Tables described once, drawn as aligned text or as GitHub Markdown.

A column knows its head, its unit and how it shows a row; one in which no row shows anything is
left out. Text keeps to a page of 100 columns: a table that is wider goes on below, behind its
first column.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 100
NOTHING = "–"
_WIDEST = 40  # of a cell as text

Record = Mapping[str, Any]  # a row of a report
Value = str | Callable[[Any], Any]  # a record's key, or what computes it


@dataclass(frozen=True)
class Column:
    """A head, the unit beneath it, and what a record shows in it; None shows nothing."""

    head: str
    unit: str
    show: Callable[[Any], str | None]
    left: bool = False


@dataclass(frozen=True)
class Table:
    """Records under a title, with sentences beneath. One not `main` is for the full page."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Record]
    notes: Sequence[str] = ()
    main: bool = True

    def cells(self) -> list[tuple[Column, list[str]]]:
        """Return the columns that show something, each with its cells."""
        found = [(column, [column.show(row) for row in self.rows]) for column in self.columns]
        return [
            (column, [_on_one_line(cell or NOTHING) for cell in cells])
            for column, cells in found
            if any(cells)
        ]


def words(head: str, value: Value) -> Column:
    """Return a column of words, aligned left."""
    return Column(head, "", value if callable(value) else lambda row: row.get(value), left=True)


def figures(head: str, unit: str, value: Value, scale: float = 1) -> Column:
    """Return a column of numbers, or of the medians of Stats, in units of `scale`."""

    def show(row: Record) -> str | None:
        found = value(row) if callable(value) else mid(row.get(value))
        return None if found is None else number(found / scale)

    return Column(head, unit, show)


def mid(value: Any) -> float | None:
    """Return a Stat's median, or the number itself."""
    return value.get("median") if isinstance(value, Mapping) else value


def number(value: Any) -> str | None:
    """Write three digits that count: 1,234, 123, 12.3, 1.23, 0.123; `12.1–12.9` for a range."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return "–".join(str(number(end)) for end in value)
    size = abs(value)
    if size >= 99.95 or value == 0:
        return f"{value:,.0f}"
    digits = 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:.{digits}f}" if size >= 0.0995 else f"{value:.3g}"


def percent(share: float | None, digits: int = 1) -> str | None:
    """Write a share of 1 in hundredths, without the sign."""
    return None if share is None else f"{100 * share:.{digits}f}"


def bytes_unit(sizes: Sequence[float | None]) -> tuple[str, float]:
    """Return the unit for sizes shown together, and how many bytes it is."""
    return ("GB", 1e9) if max((size or 0 for size in sizes), default=0) >= 1e9 else ("MB", 1e6)


def as_text(table: Table) -> str:
    """Draw a title, columns under their heads, notes; no line wider than WIDTH."""
    columns = table.cells()
    units = any(column.unit for column, _ in columns)
    stacks = [_stack(column, cells, units) for column, cells in columns]
    pages: list[list[list[str]]] = []
    for stack in stacks:
        width = sum(2 + len(lines[0]) for lines in pages[-1]) + len(stack[0]) if pages else 0
        if not pages or (width > WIDTH and len(pages[-1]) > 1):
            pages.append(stacks[:1] if pages else [])
        pages[-1].append(stack)
    parts = [
        "\n".join("  ".join(line).rstrip() for line in zip(*page, strict=True)) for page in pages
    ]
    notes = [fill(f"* {note}", "  ") for note in table.notes]
    return "\n".join([table.title, "\n\n".join(parts), *notes])


def as_markdown(table: Table, level: int) -> str:
    """Draw the same for GitHub."""
    columns = table.cells()
    parts = [f"{'#' * level} {table.title}"]
    if columns:
        heads = [f"{c.head} ({c.unit})".strip() if c.unit else c.head for c, _ in columns]
        rules = [":---" if column.left else "---:" for column, _ in columns]
        rows = zip(*(cells for _, cells in columns), strict=True)
        lines = (map(_escape, line) for line in (heads, rules, *rows))
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    if table.notes:
        parts.append("\n".join(f"- {_escape(note)}" for note in table.notes))
    return "\n\n".join(parts)


def fill(text: str, indent: str = "") -> str:
    """Break a paragraph into lines no wider than the page."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _stack(column: Column, cells: Sequence[str], units: bool) -> list[str]:
    """A column's lines, cut and all of one width."""
    lines = [column.head, column.unit, *cells] if units else [column.head, *cells]
    cut = [line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…" for line in lines]
    form = f"{'<' if column.left else '>'}{max(map(len, cut))}"
    return [f"{line:{form}}" for line in cut]


def _on_one_line(cell: str) -> str:
    """A cell on one line, whatever a file named its categories."""
    return " ".join("".join(c if c.isprintable() else " " for c in cell).split())


def _escape(text: str) -> str:
    """Text that Markdown shows as it is: no pipe ends a cell, no tag opens."""
    return re.sub(r"([\\|<*_])", r"\\\1", _on_one_line(text))
