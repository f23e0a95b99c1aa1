"""`paw-mlx diff`: what changed between two versions of a program.

Exits with 0 whether or not anything did, as `git diff` does. The texts in a file are untrusted:
what a terminal would obey is shown escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ..errors import listed
from .command import Command
from .common import print_json, print_text, printable, table
from .options import alpha_option, json_option, rslora_option
from .references import ARTIFACT

if TYPE_CHECKING:
    from ..convert.diff import Diff, MetaChanges, Moved

_WIDTH = 60  # characters of a value in meta; JSON has all of it


@click.command(cls=Command)
@click.argument("a", metavar="A", type=ARTIFACT)
@click.argument("b", metavar="B", type=ARTIFACT)
@alpha_option
@rslora_option
@json_option
def command(a: str, b: str, alpha: float | None, rslora: bool, as_json: bool) -> None:
    """Show what changed from program A to program B: texts, meta, and how far the adapter moved.

    Each is a path in any layout or a name in the store, as in `diff triage@v1 triage`.
    """
    from .. import hub
    from ..convert.diff import diff
    from ..convert.program import read_any

    paths = [hub.resolve_adapter(reference, offline=True) for reference in (a, b)]
    one, other = (read_any(path, alpha=alpha, rslora=rslora) for path in paths)
    changes = diff(one, other)
    if as_json:
        print_json(changes.record())
    else:
        print_text(_sheet(changes))


def _sheet(changes: Diff) -> str:
    parts = [
        "\n".join([name.replace("_", "-"), *(f"  {printable(line)}" for line in lines)])
        for name, lines in changes.texts.items()
    ]
    if changes.meta:
        parts.append("\n".join(["meta", *_meta(changes.meta)]))
    if changes.adapter.difference:
        parts += [_norms("layer", changes.layers), _norms("module", changes.modules)]
    for side, sites in (("A", changes.only_a), ("B", changes.only_b)):
        if sites:
            parts.append(f"only in {side}: {listed(sites)}")
    return "\n\n".join([*parts, _conclusion(changes)])


def _meta(meta: MetaChanges) -> list[str]:
    lines = [f"  - {key}: {_value(value)}" for key, value in meta.removed.items()]
    lines += [f"  + {key}: {_value(value)}" for key, value in meta.added.items()]
    lines += [f"  ~ {k}: {_value(a)} → {_value(b)}" for k, (a, b) in meta.changed.items()]
    return [printable(line) for line in lines]


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"


def _norms(what: str, moved: Mapping[Any, Moved]) -> str:
    rows = [[what, "|A|", "|B|", "|B - A|", "change"]]
    for name, one in moved.items():
        norms = [f"{norm:.4g}" for norm in (one.a, one.b, one.difference)]
        rows.append([str(name), *norms, _change(one)])
    return table(rows)


def _change(moved: Moved) -> str:
    return "new" if moved.relative is None else f"{100 * moved.relative:.3g} %"


def _conclusion(changes: Diff) -> str:
    """Say in one line how far the adapter moved, or that it did not."""
    moved = changes.adapter
    if moved.difference:
        return f"the adapter moved by {_change(moved)} of its size"
    same = "the adapter is the same"
    return same if changes.texts or changes.meta else f"{same}, and so are texts and meta"
