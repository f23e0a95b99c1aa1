"""A report: what was measured, on which machine, under which conditions; written and read as JSON.

    {"schema": 1, "kind": "speed" | "compile" | "accuracy" | "versus" | "reproduce",
     "date": "2026-11-21T15:04:05Z", "command": "paw-mlx bench speed --synthetic",
     "machine": {...}, "conditions": {"start": {...}, "end": {...}},
     "synthetic": bool, "settings": {...}, "rows": [{...}, ...]}

What was measured several times is a Stat, {"median", "min", "max", "num", "samples"}. A row
that could not be measured says why under "skipped". `sections.py` says which tables show the rows,
`plots.py` draws them.

    python -m paw_mlx.benchmarks.report      writes the results' pages and both README.md anew
"""

from __future__ import annotations

import json
import re
import shlex
import statistics
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from paw_mlx.benchmarks import headings, sections
from paw_mlx.benchmarks.tables import as_markdown, as_text, filled
from paw_mlx.errors import FormatError, NotFound
from paw_mlx.files import replacing

SCHEMA = 1
KINDS = ("speed", "compile", "accuracy", "versus", "reproduce")
RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
FRONT = Path(__file__).resolve().parents[1] / "README.md"
_FRONT = ("Tokens per second", "Memory")  # tables of the front page
_MARKS = ("<!-- results -->", "<!-- /results -->")
_KEYS = {
    "date": str,
    "command": str,
    "machine": dict,
    "conditions": dict,
    "synthetic": bool,
    "settings": dict,
}

Report = dict[str, Any]


def stat(values: Iterable[float]) -> dict[str, Any]:
    """What several measurements came to, and each in turn to 4 digits; ValueError for none."""
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
    """The report of a run that ends now; `start` is the `machine.condition()` it began in."""
    from paw_mlx.benchmarks import machine

    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of report")
    return {
        "schema": SCHEMA,
        "kind": kind,
        "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "command": shlex.join(["paw-mlx", *map(_nameless, sys.argv[1:])]),
        "machine": machine.card(),
        "conditions": {"start": start, "end": machine.condition()},
        "synthetic": synthetic,
        "settings": settings,
        "rows": list(rows),
    }


def save(report: Report, folder: Path | str) -> Path:
    """Write `<chip>-<date>-<kind>.json`, or `-2`, `-3` where that stands already; return the path.

    HubError if the disk refuses.
    """
    stem = f"{_slug(headings.chip(report))}-{report['date'][:10]}-{report['kind']}"
    path, number = Path(folder) / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = path.with_name(f"{stem}-{number}.json")
    write(path, json.dumps(report, indent=1) + "\n")
    return path


def write(path: Path, text: str) -> None:
    """Write a text whole, or not at all."""
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
    """The report as aligned text, at most 100 columns wide."""
    parts = [filled(headings.title(report))]
    if report["synthetic"]:
        parts.append(filled(headings.SYNTHETIC))
    parts += [as_text(table) for table in sections.tables(report)]
    about = (headings.machine_line(report), headings.run_line(report))
    return "\n\n".join([*parts, "\n".join(filled(line) for line in about)])


def markdown(report: Report) -> str:
    """The report as a page of GitHub Markdown."""
    parts = [f"# {headings.title(report)}"]
    if report["synthetic"]:
        parts.append(f"**{headings.SYNTHETIC}**")
    parts += [as_markdown(table, 2) for table in sections.tables(report)]
    parts += [headings.machine_line(report), headings.run_line(report)]
    return "\n\n".join(parts) + "\n"


def with_results(page: str, results: Iterable[str]) -> str:
    """A page with other results between its marks; FormatError for a page without marks."""
    head, mark, rest = page.partition(_MARKS[0])
    _, end, tail = rest.partition(_MARKS[1])
    if not (mark and end):
        raise FormatError(f"the page has no {_MARKS[0]} … {_MARKS[1]}")
    return "\n\n".join([f"{head}{mark}", *results, f"{end}{tail}"])


def pages() -> dict[Path, str]:
    """What the committed results say: a page of each, all of them in short, the speed at once."""
    found = [(path, load(path)) for path in RESULTS.glob("*.json")]
    found.sort(key=lambda one: (one[1]["date"], one[0].name), reverse=True)
    made = {path.with_suffix(".md"): markdown(report) for path, report in found}
    page, front = (path.read_text(encoding="utf-8") for path in (README, FRONT))
    made[README] = with_results(page, [_in_short(path, report) for path, report in found])
    made[FRONT] = with_results(front, _newest_speed(report for _, report in found))
    return made


def _newest_speed(reports: Iterable[Report]) -> list[str]:
    """The first tables of the newest speed that was measured whole, for the front page."""
    for report in reports:
        if report["kind"] == "speed" and not report["settings"].get("partial"):
            said = [f"**{headings.title(report)}**", *([headings.SYNTHETIC] * report["synthetic"])]
            shown = (table for table in sections.tables(report) if table.title in _FRONT)
            said += [as_markdown(table, 3) for table in shown]
            return [*said, headings.machine_line(report)]
    return []


def _in_short(path: Path, report: Report) -> str:
    """A result's main tables and its plots, with links to the rest."""
    folder = path.parent.name
    parts = [f"### {headings.title(report)}"]
    if report["synthetic"]:
        parts.append(f"**{headings.SYNTHETIC}**")
    parts += [as_markdown(table, 4) for table in sections.tables(report) if table.main]
    own = re.compile(re.escape(path.stem) + r"-[a-z][a-z-]*")  # not those of its -2
    plots = [plot for plot in sorted(path.parent.glob("*.svg")) if own.fullmatch(plot.stem)]
    parts += [f"![{plot.stem}]({folder}/{plot.name})" for plot in plots]
    more = [f"[{name}]({folder}/{name})" for name in (f"{path.stem}.md", path.name)]
    return "\n\n".join([*parts, f"{headings.machine_line(report)} {' '.join(more)}".strip()])


def _nameless(argument: str) -> str:
    """An argument without the folders of whoever ran the command, also behind `--option=`."""
    option, equals, value = argument.partition("=")
    if not (equals and option.startswith("-")):
        option, equals, value = "", "", argument
    path = PurePath(value)
    return option + equals + (path.name if path.is_absolute() and path.name else value)


def _slug(text: str) -> str:
    plain = re.sub(r"\((r|tm|c)\)|@.*| cpu\b", " ", text.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "unknown"


def main() -> None:
    """Write what the committed results say anew, as tables and sentences may have changed."""
    for path, page in pages().items():
        write(path, page)


if __name__ == "__main__":
    main()
