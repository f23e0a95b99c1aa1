"""What the page of a report is put together from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from ..markup import legal


def text(raw: str) -> str:
    """Return a text as HTML: escaped, and without what may not stand there."""
    return escape(legal(raw))


def percent(share: float) -> str:
    """Return a share, 0 to 1, as people read it."""
    return f"{100 * share:.1f} %"


def card(title: str, body: str) -> str:
    """Return a section; without a title, none is shown."""
    head = f"<h2>{title}</h2>" if title else ""
    return f'<section class="card">{head}{body}</section>'


def facts(named: Mapping[str, str]) -> str:
    """Return figures and what they are called; empty ones are left out."""
    told = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in named.items() if v)
    return f'<dl class="facts">{told}</dl>'


def table(head: Iterable[str], rows: Iterable[str], kind: str = "") -> str:
    """Return a table of cells of the head, as HTML, and rows, that scrolls where it is wide."""
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{"".join(head)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def columns(*names: str) -> list[str]:
    """Return cells of a table's head."""
    return [f'<th scope="col">{name}</th>' for name in names]


def label_cell(label: str | None, scope: str = "row") -> str:
    """Return the head of a row or a column of a label; None is any other output."""
    name = "(other)" if label is None else text(label)
    return f'<th scope="{scope}" class="name" title="{name}">{name}</th>'
