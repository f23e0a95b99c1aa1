"""Tables described once, drawn as aligned text or as GitHub Markdown.

A column knows its head, its unit and how it shows a row; one in which no row shows anything is
left out. Text keeps to a page of 100 columns: a table that is wider goes on below, behind its
first column.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH = 100
NOTHING = "–"
_WIDEST = 40  # of a cell as text

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A head, the unit beneath it, and what a row shows in it; None shows nothing."""

    head: str
    unit: str
    show: Callable[[Row], str | None]
    left: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a title, with sentences beneath. One that is not `main` is for the full page."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = field(default=())
    main: bool = True

    def drawn(self) -> list[tuple[Column, list[str]]]:
        """The columns that show something, each with its cells."""
        found = [(column, [column.show(row) for row in self.rows]) for column in self.columns]
        return [
            (column, [_plain(cell or NOTHING) for cell in cells])
            for column, cells in found
            if any(cells)
        ]


def as_text(table: Table) -> str:
    """A title, columns under their heads, notes; no line wider than WIDTH."""
    parts = ["\n".join(_lines(columns)) for columns in _pages(table.drawn())]
    notes = "\n".join(_filled(note) for note in table.notes)
    return "\n".join([table.title, "\n\n".join(parts), *([notes] if notes else [])])


def as_markdown(table: Table, level: int) -> str:
    """The same as GitHub draws it."""
    columns = table.drawn()
    heads = [" ".join(filter(None, (c.head, f"({c.unit})" if c.unit else ""))) for c, _ in columns]
    rules = [":---" if column.left else "---:" for column, _ in columns]
    rows = zip(*(cells for _, cells in columns), strict=True)
    parts = [f"{'#' * level} {table.title}"]
    if columns:
        parts.append("\n".join(_piped(line) for line in (heads, rules, *rows)))
    if table.notes:
        parts.append("\n".join(f"- {_escaped(note)}" for note in table.notes))
    return "\n\n".join(parts)


def number(value: float | None) -> str | None:
    """Three digits that count: 1,234, 123, 12.3, 1.23, 0.123, 0.0123."""
    if value is None:
        return None
    size = abs(value)
    if size >= 99.95 or value == 0:
        return f"{value:,.0f}"
    digits = 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:.{digits}f}" if size >= 0.0995 else f"{value:.3g}"


def span(low: float, high: float) -> str:
    """`12.1–12.9`."""
    return f"{number(low)}–{number(high)}"


def percent(share: float | None, digits: int = 1) -> str | None:
    """A share of 1 in hundredths, without the sign."""
    return None if share is None else f"{100 * share:.{digits}f}"


def filled(text: str, indent: str = "") -> str:
    """A paragraph no wider than the page."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _filled(note: str) -> str:
    return filled(f"* {note}", "  ")


def _plain(cell: str) -> str:
    """On one line, whatever a file named its categories."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in cell)).strip()


def _cut(cell: str) -> str:
    return cell if len(cell) <= _WIDEST else cell[: _WIDEST - 1] + "…"


def _width(column: Column, cells: Sequence[str]) -> int:
    return max(len(_cut(cell)) for cell in (column.head, column.unit, *cells))


def _pages(columns: Sequence[tuple[Column, list[str]]]) -> list[list[tuple[Column, list[str]]]]:
    """The columns in groups that fit the page; each group begins with the first column."""
    if not columns:
        return []
    first, *rest = columns
    pages, used = [[first]], _width(*first)
    for column in rest:
        width = 2 + _width(*column)
        if used + width > WIDTH and len(pages[-1]) > 1:
            pages.append([first])
            used = _width(*first)
        pages[-1].append(column)
        used += width
    return pages


def _lines(columns: Sequence[tuple[Column, list[str]]]) -> list[str]:
    units = any(column.unit for column, _ in columns)
    stacks = []
    for column, cells in columns:
        width = _width(column, cells)
        stack = [column.head, *([column.unit] if units else []), *cells]
        stacks.append([_aligned(_cut(cell), width, column.left) for cell in stack])
    return ["  ".join(line).rstrip() for line in zip(*stacks, strict=True)]


def _aligned(cell: str, width: int, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: no pipe ends a cell, no tag opens."""
    return re.sub(r"([\\|<*_])", r"\\\1", _plain(text))


def either(value: Any) -> str | None:
    """A figure, or a range of two."""
    return span(*value) if isinstance(value, list | tuple) else number(value)
