"""`paw-mlx inspect`: what a program or adapter holds, without loading a model.

The texts in a file are untrusted: what a terminal would obey is shown escaped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from .. import store
from ..errors import FormatError, PawError, listed
from ..files import exists
from ..formats import Summary, summarize
from ..formats.fingerprint import base_fingerprint, recorded
from ..output import Labels, Output, Regex, Schema, read_record
from ..profiles import base_name
from .command import Command
from .common import printable
from .options import interpreter_option, json_option
from .references import ARTIFACT


@click.command(cls=Command)
@click.argument("what", metavar="PATH", type=ARTIFACT)
@interpreter_option("Compare with this base instead.")
@json_option
def command(what: str, interpreter: str | None, as_json: bool) -> None:
    """Show what the program or adapter at PATH holds, without loading a model.

    PATH may also be a program's name in the store, or what torch saved: that is read, and never
    executed.
    """
    stored = store.is_reference(what) and not exists(Path(what))
    path = store.find(what) if stored else Path(what)
    summary = _summarize(path)
    matches, base = _compare_base(summary, interpreter)
    num_cases = len(store.cases_of(path, summary.meta or {}))
    if as_json:
        more = {"base_matches": matches, "num_cases": num_cases}
        click.echo(json.dumps(asdict(summary) | more))
    else:
        click.echo(_sheet(summary, base, num_cases))


def _summarize(path: Path) -> Summary:
    """Summarize what a layout of ours holds, or else a file or folder of torch's."""
    try:
        return summarize(path)
    except FormatError:
        from ..convert import torch_adapter  # takes a while, and is rarely meant

        if not torch_adapter.is_torch(path):
            raise
        return torch_adapter.summarize(path)


def _compare_base(s: Summary, reference: str | None) -> tuple[bool | None, str | None]:
    """Return whether the base that `run` would take is the one recorded, and what to say.

    None if nobody can tell.
    """
    made_for = recorded(s.meta or {}, "interpreter")
    if made_for is None or s.interpreter is None:
        return None, None
    from .. import hub  # takes a while, and few programs record a fingerprint

    name = reference or base_name(s.interpreter)
    try:
        path = hub.resolve_base(name, offline=True)
    except PawError:
        return None, "not on this machine"
    try:
        if base_fingerprint(path) == made_for:
            return True, "the one on this machine matches"
    except PawError as error:
        return None, f"the one on this machine cannot be read: {error}"
    return False, f"differs from the one on this machine ({name})"


def _sheet(s: Summary, base: str | None, num_cases: int) -> str:
    layers = f"{len(s.layers)} layers" if len(s.layers) > 1 else f"layer {s.layers[0]}"
    rows = {
        "layout": s.layout,
        "program": s.program_id,
        "interpreter": s.interpreter,
        "base": base,
        "sites": f"{s.num_sites} ({layers} x {len(s.modules)} modules: {', '.join(s.modules)})",
        "rank": _numbers(s.ranks),
        "alpha": f"{_numbers(s.alphas)} (scale {_numbers(s.scales)})" if s.alphas else "not said",
        "parameters": f"{s.num_parameters:,}",
        "adapter": f"{', '.join(s.dtypes)}, {_size(s.adapter_bytes)}",
        "file": _size(s.file_bytes),
        "output": _type(read_record((s.meta or {}).get("output"))),
        "cases": num_cases or None,
    }
    for key in ("compiler_snapshot", "compiler_kind", "created_at"):
        rows[key.replace("_", " ")] = (s.meta or {}).get(key)
    for model in ("compiler", "interpreter"):
        rows[f"{model} fingerprint"] = (recorded(s.meta or {}, model) or "")[:12] or None
    shown = {key: value for key, value in rows.items() if value is not None}
    width = max(map(len, shown))
    lines = [f"{key:<{width}}  {printable(str(value))}" for key, value in shown.items()]
    for title, text in (("spec", s.spec), ("pseudo-program", s.pseudo_program)):
        if text:
            body = (f"  {printable(line)}".rstrip() for line in text.strip().split("\n"))
            lines += ["", title, *body]
    return "\n".join(lines)


def _type(output: Output) -> str | None:
    """Say what outputs may be; None for any text."""
    match output:
        case Labels(labels):
            kept = {"threshold": output.threshold, "otherwise": output.otherwise}
            kept |= {"temperature": None if output.temperature == 1 else output.temperature}
            more = [f"{name} {value}" for name, value in kept.items() if value is not None]
            return f"{len(labels)} labels: {listed(labels, 12)}" + "".join(f"; {m}" for m in more)
        case Schema(text):
            return f"JSON of the schema {text}"
        case Regex(pattern):
            return f"text that matches {pattern}"
    return None


def _numbers(values: Sequence[float]) -> str:
    texts = [f"{value:g}" for value in values]
    return ", ".join(texts) if len(texts) <= 5 else f"{texts[0]} to {texts[-1]}"


def _size(num_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} bytes"
