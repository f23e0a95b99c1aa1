"""A report: what was measured, on which machine, under which conditions; written and read as JSON.

    {"schema": 1, "kind": "speed" | "compile" | "accuracy" | "quality" | "versus" | "reproduce",
     "date": "2026-11-21T15:04:05Z", "command": "paw-mlx bench speed --synthetic",
     "machine": {...}, "conditions": {"start": {...}, "end": {...}},
     "synthetic": bool, "settings": {...}, "rows": [{...}, ...]}

What was measured several times is a Stat, {"median", "min", "max", "num", "samples"}. A row
that could not be measured says why under "skipped". `sections.py` says which tables show the rows,
`figures.py` what is drawn of them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import statistics
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from paw_mlx.benchmarks.report import headings, sections, tables
from paw_mlx.errors import FormatError, NotFound, PawError
from paw_mlx.files import replacing

RESULTS = Path(__file__).parents[1] / "results"  # that are committed
SCHEMA = 1
KINDS = ("speed", "compile", "accuracy", "quality", "versus", "reproduce")
_KEYS = {
    "date": str,
    "command": str,
    "machine": dict,
    "conditions": dict,
    "synthetic": bool,
    "settings": dict,
}
_PATH = re.compile(r"(?<![\w/.:-])/[^\s:'\",]+")
_INSIDE = re.compile(r"/(?=[^\s:'\",])")

Report = dict[str, Any]


def stat(values: Iterable[float]) -> dict[str, Any]:
    """Return what several measurements came to, and each to 4 digits; ValueError for none."""
    found = list(values)
    if not found:
        raise ValueError("a Stat needs a measurement")
    return {
        "median": statistics.median(found),
        "min": min(found),
        "max": max(found),
        "num": len(found),
        "samples": [float(f"{value:.4g}") for value in found],
    }


def make(
    kind: str,
    rows: Sequence[dict[str, Any]],
    settings: dict[str, Any],
    *,
    synthetic: bool,
    start: dict[str, Any],
) -> Report:
    """Make the report of a run that ends now; it began in the `machine.condition()` `start`."""
    from paw_mlx import machine

    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of report")
    return {
        "schema": SCHEMA,
        "kind": kind,
        "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "command": shlex.join(["paw-mlx", *map(without_folder, sys.argv[1:])]),
        "machine": machine.card(),
        "conditions": {"start": start, "end": machine.condition()},
        "synthetic": synthetic,
        "settings": settings,
        "rows": list(rows),
    }


def save(report: Report, folder: Path | str) -> Path:
    """Write `<chip>-<date>-<kind>.json`, or `-2`, `-3` where that stands already; return the path.

    DiskError if the disk refuses.
    """
    plain = re.sub(r"\((r|tm|c)\)|@.*| cpu\b", " ", headings.chip(report).lower())
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "unknown"
    stem = f"{slug}-{report['date'][:10]}-{report['kind']}"
    path, number = Path(folder) / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = path.with_name(f"{stem}-{number}.json")
    write(path, json.dumps(report, indent=1) + "\n")
    return path


def write(path: Path, text: str) -> None:
    """Write a text whole, or not at all. DiskError if the disk refuses."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def load(path: Path | str) -> Report:
    """Read a report; FormatError for what is none, or of a newer schema, NotFound for no file."""
    try:
        report = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise FormatError(f"{path} is no report: it is not JSON") from error
    schema = report.get("schema") if isinstance(report, dict) else None
    if not isinstance(schema, int) or report.get("kind") not in KINDS:
        raise FormatError(
            f"{path} is no report: it has no schema, or no kind of {', '.join(KINDS)}",
            hint="`paw-mlx bench speed -o FOLDER` writes one.",
        )
    if schema > SCHEMA:
        raise FormatError(
            f"{path} has schema {schema}, and this version reads up to {SCHEMA}",
            hint="Update paw-mlx.",
        )
    wrong = [key for key, kind in _KEYS.items() if not isinstance(report.get(key), kind)]
    rows = report.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        wrong.append("rows")
    if wrong:
        raise FormatError(f"{path} is no report: no usable {', '.join(wrong)}")
    return report


def terminal(report: Report) -> str:
    """Return the report as aligned text, at most 100 columns wide."""
    parts = [tables.fill(headings.title(report))]
    if report["synthetic"]:
        parts.append(tables.fill(headings.SYNTHETIC))
    parts += [tables.as_text(table) for table in sections.tables(report)]
    about = tables.fill(headings.machine_line(report)), tables.fill(headings.run_line(report))
    return "\n\n".join([*parts, "\n".join(about)])


def markdown(report: Report) -> str:
    """Return the report as a page of GitHub Markdown."""
    parts = [
        *head(report, "# "),
        *(tables.as_markdown(table, 2) for table in sections.tables(report)),
    ]
    return "\n\n".join([*parts, headings.machine_line(report), headings.run_line(report)]) + "\n"


def head(report: Report, mark: str) -> list[str]:
    """Return a page's title behind a mark, and what is to be said at once."""
    synthetic = [f"**{headings.SYNTHETIC}**"] if report["synthetic"] else []
    return [f"{mark}{headings.title(report)}", *synthetic]


def reason(error: Exception) -> str:
    """Say why something is not in a report: what happened and the way out, in a line.

    Of another library's traceback its last line; of paths the last part.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    said = " ".join(lines[-1:] if isinstance(error, RuntimeError) else lines).rstrip(".")
    hints = error.hints if isinstance(error, PawError) else []
    text = ". ".join([said, *hints])
    # Of paths with spaces in their names, the disk alone can tell where a folder ends.
    for root in reversed([match.start() for match in _PATH.finditer(text)]):
        ends = [match.start() for match in _INSIDE.finditer(text, root + 1)]
        folders = [end for end in ends if os.path.isdir(text[root:end])]  # noqa: PTH112  no raise
        text = text[:root] + text[max(folders, default=root) :]
    return _PATH.sub(lambda path: path[0].rstrip("/").rpartition("/")[2], text)


def without_folder(argument: str) -> str:
    """Return an argument without the folders of whoever gave it, also behind `--option=`."""
    option, equals, value = argument.partition("=")
    if not (equals and option.startswith("-")):
        option, equals, value = "", "", argument
    path = PurePath(value)
    return option + equals + (path.name if path.is_absolute() and path.name else value)
