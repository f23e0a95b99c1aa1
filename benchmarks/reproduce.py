"""The paper's figures beside those that results hold: what, paper, here, ratio.

A figure here counts only if it is of the same thing: the accuracy of FuzzyBench, the speed of
Qwen3-0.6B. The newest result that has it gives it; where none has, the row says what measures
it. Paper: arXiv 2607.02512; its speeds are llama.cpp's on a MacBook M3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paw_mlx.benchmarks import report
from paw_mlx.benchmarks.report import Report
from paw_mlx.benchmarks.sections import chip, mid, subject
from paw_mlx.benchmarks.tables import Row
from paw_mlx.errors import FormatError, NotFound

_SPEED = "`paw-mlx bench speed` measures it"
_DENSE = "`paw-mlx bench speed --bits 16` measures it, with room for the baseline in 16 bits"
_ACCURACY = "`paw-mlx bench accuracy fuzzybench` measures it"

Found = tuple[float, str]  # a figure, and which row it is of


@dataclass(frozen=True)
class Claim:
    """A figure of the paper, how a report answers it, and the command that does."""

    what: str
    paper: float
    unit: str
    kind: str
    find: Callable[[Report], Found | None]
    command: str


def claims(reports: Iterable[Report]) -> list[Row]:
    """The paper's table, answered from these reports."""
    newest = sorted(reports, key=lambda made: made["date"], reverse=True)
    return [_row(claim, newest) for claim in CLAIMS]


def gathered(paths: Sequence[Path]) -> list[Report]:
    """The reports in files and folders. NotFound for a path that is not there, FormatError for
    a file that is no report; what else lies in a folder is passed over."""
    found = []
    for path in paths:
        if not path.is_dir():
            found.append(report.load(path))
            continue
        for file in sorted(path.glob("*.json")):
            try:
                found.append(report.load(file))
            except (FormatError, NotFound):
                continue
    return found


def _row(claim: Claim, reports: Sequence[Report]) -> dict[str, Any]:
    row: dict[str, Any] = {"what": claim.what, "paper": claim.paper, "unit": claim.unit}
    for made in reports:
        if made["kind"] == claim.kind and (found := claim.find(made)):
            here, of = found
            weights = ", synthetic weights" if made["synthetic"] else ""
            note = f"{of}{weights}; {chip(made)}, {made['date'][:10]}"
            return row | {"here": here, "ratio": here / claim.paper, "note": note}
    return row | {"here": None, "ratio": None, "note": f"not here yet; {claim.command}"}


def _measured(made: Report, who: str, size: str) -> list[Row]:
    """Rows of a subject whose model has that size, those of the fewest bits first."""
    rows = [
        row
        for row in made["rows"]
        if row["subject"] == who
        and not row.get("skipped")
        and size in str(row.get("model")).lower()
    ]
    return sorted(rows, key=lambda row: row.get("bits") or 5)


def _speed(who: str, size: str, key: str, bits: int | None = None) -> Callable[..., Found | None]:
    scale = 1e9 if key.endswith("_bytes") else 1

    def find(made: Report) -> Found | None:
        for row in _measured(made, who, size):
            value = mid(row.get(key))
            if value is not None and bits in (None, row.get("bits")):
                return value / scale, subject(row)
        return None

    return find


def _times_smaller(made: Report) -> Found | None:
    """The baseline's memory over the program's, in the same number of bits."""
    for ours in _measured(made, "program", "0.6b"):
        for theirs in _measured(made, "baseline", "32b"):
            if ours.get("bits") == theirs.get("bits") and ours.get("active_bytes"):
                ratio = theirs["active_bytes"] / ours["active_bytes"]
                return ratio, f"{subject(theirs)} : {subject(ours)}"
    return None


def _accuracy(method: str) -> Callable[[Report], Found | None]:
    def find(made: Report) -> Found | None:
        settings = made["settings"]
        source = str(settings.get("source", "")).lower()
        base = str(settings.get("interpreter", "")).lower()
        if "fuzzy" not in source or "0.6b" not in base or made["synthetic"]:
            return None
        for row in made["rows"]:
            plain = row["group"] == "all" and not row.get("noise") and not row.get("skipped")
            if row["method"] == method and plain:
                return 100 * row["accuracy"], f"{method}, {row['num']:,} rows of {source}"
        return None

    return find


CLAIMS = (
    Claim("accuracy, program", 73.78, "%", "accuracy", _accuracy("program"), _ACCURACY),
    Claim("accuracy, 0.6B prompted", 9.84, "%", "accuracy", _accuracy("prompted"), _ACCURACY),
    Claim("accuracy, 32B prompted", 68.70, "%", "accuracy", _accuracy("baseline"), _ACCURACY),
    Claim("accuracy, one fixed LoRA", 52.10, "%", "accuracy", _accuracy("fixed"), _ACCURACY),
    Claim(
        "decode, program", 31.6, "tok/s", "speed", _speed("program", "0.6b", "decode_tok_s"), _SPEED
    ),
    Claim("cold load", 0.48, "s", "speed", _speed("program", "0.6b", "load_s"), _SPEED),
    Claim(
        *("memory, program, 16 bits", 1.2, "GB", "speed"),
        *(_speed("program", "0.6b", "active_bytes", bits=16), _DENSE),
    ),
    Claim(
        *("memory, 32B, 16 bits", 60.0, "GB", "speed"),
        *(_speed("baseline", "32b", "active_bytes", bits=16), _DENSE),
    ),
    Claim("memory, 32B : program", 50.0, "×", "speed", _times_smaller, _SPEED),
)
