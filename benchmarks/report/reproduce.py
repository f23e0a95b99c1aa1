"""The paper's figures beside those that results hold: what, paper, here, ratio.

A figure here counts only if it is of the same thing: the accuracy of FuzzyBench, the speed of
Qwen3-0.6B. The newest result that has it gives it, one of `--quick` or one cut short only where
there is no other; where none has, the row says what measures it, or why nothing does. Paper: arXiv
2607.02512; its speeds are llama.cpp's on a MacBook M3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paw_mlx.benchmarks.report import report
from paw_mlx.benchmarks.report.headings import chip, subject
from paw_mlx.benchmarks.report.report import RESULTS, Report
from paw_mlx.benchmarks.report.sections import same_bits
from paw_mlx.benchmarks.report.tables import Record, mid, percent
from paw_mlx.errors import FormatError, NotFound

_FULL_TOKENS = 128  # that `bench speed` decodes, if not --quick
_SMALL, _LARGE = "qwen3-0.6b", "qwen3-32b"
_32B = "--bits 16 --baseline-model Qwen/Qwen3-32B"

Found = tuple[float, str]  # a figure, and which row it is of


class Claim(NamedTuple):
    """A figure of the paper, how a report of a kind answers it, what is said if none does."""

    what: str
    paper: float
    unit: str
    kind: str
    find: Callable[[Report], Found | None]
    otherwise: str


def claims(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """Return the paper's table, answered from these reports."""
    best = sorted(reports, key=_rank, reverse=True)
    return [_row(claim, best) for claim in _claims()]


def places() -> list[Path]:
    """Return where results are looked for: those that came with the source, and ./results."""
    own = Path("results")
    beside = own.is_dir() and own.resolve() != RESULTS.resolve()
    return [RESULTS, own] if beside else [RESULTS]


def gather(paths: Sequence[Path]) -> list[Report]:
    """Return the reports in files and folders. NotFound for a path that is not there, FormatError
    for a file that is no report; what else lies in a folder is passed over."""
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
            note = f"{of}{_quick(made)}{weights}; {chip(made)}, {made['date'][:10]}"
            return row | {"here": here, "ratio": here / claim.paper, "note": note}
    return row | {"here": None, "ratio": None, "note": claim.otherwise}


def _rank(made: Report) -> tuple[bool, bool, str]:
    """What was not cut short comes first, then what is no --quick run, then the newest."""
    return not made["settings"].get("partial"), not _quick(made), made["date"]


def _quick(made: Report) -> str:
    """How little `--quick` measured, "" for another run."""
    rounds, tokens = (made["settings"].get(key) for key in ("rounds", "num_decode"))
    is_full = made["kind"] != "speed" or tokens is None or tokens >= _FULL_TOKENS
    return "" if is_full else f", quick (rounds: {rounds}, tokens: {tokens})"


def _is(name: Any, model: str) -> bool:
    """Whether a name is the model's, in whatever form: `mlx-community/Qwen3-32B-4bit`."""
    last = str(name).lower().partition(",")[0].rpartition("/")[2]
    return re.match(rf"{re.escape(model)}(?!\w|[-.]?base)", last) is not None


def _measured(made: Report, who: str) -> list[Record]:
    """Rows of the program or the baseline on the paper's models, of the fewest bits first."""
    model = {"program": _SMALL, "baseline": _LARGE}[who]
    rows = [row for row in made["rows"] if row["subject"] == who and not row.get("skipped")]
    rows = [row for row in rows if _is(row.get("model"), model)]
    return sorted(rows, key=lambda row: row.get("bits") or math.inf)


def _decode(made: Report) -> Found | None:
    rows = (row for row in _measured(made, "program") if mid(row.get("decode_tok_s")) is not None)
    return next(((row["decode_tok_s"]["median"], subject(row)) for row in rows), None)


def _memory(who: str) -> Callable[[Report], Found | None]:
    """Memory in 16 bits; float32 counts as 16, and is not meant."""

    def find(made: Report) -> Found | None:
        for row in _measured(made, who):
            wide, size = "float32" in str(row.get("form")), row.get("active_bytes")
            if size is not None and row.get("bits") == 16 and not wide:
                return size / 1e9, subject(row)
        return None

    return find


def _times_smaller(made: Report) -> Found | None:
    """The baseline's memory over the program's, in the same number of bits."""
    for ours in _measured(made, "program"):
        for theirs in _measured(made, "baseline"):
            if same_bits(ours, theirs) and ours.get("active_bytes"):
                ratio = theirs["active_bytes"] / ours["active_bytes"]
                return ratio, f"{subject(theirs)} : {subject(ours)}"
    return None


def _accuracy(method: str) -> Callable[[Report], Found | None]:
    """Accuracy on FuzzyBench, of the paper's base, or of its large model."""

    def find(made: Report) -> Found | None:
        settings = made["settings"]
        source, large = str(settings.get("source")), str(settings.get("baseline"))
        of_paper = _is(settings.get("interpreter"), _SMALL)
        if method == "baseline":
            of_paper = of_paper and _is(large, _LARGE)
        if source.partition("/")[0] != "fuzzybench" or not of_paper or made["synthetic"]:
            return None
        for row in made["rows"]:
            plain = row["group"] == "all" and not row.get("noise") and not row.get("skipped")
            if row["method"] == method and plain:
                who = large if method == "baseline" else method
                rows = f"{who}, {row['num']:,} rows of {source}"
                return 100 * row["accuracy"], rows + _sample(settings, row)
        return None

    return find


def _sample(settings: Record, row: Record) -> str:
    """How much of the data it was, where that was not all, and how far the figure may be off."""
    some, every, inputs = (settings.get(key) for key in ("functions", "functions_in_all", "inputs"))
    if inputs is None and some == every:
        return ""
    part = f", {some:,} of {every:,} functions" if some and every else ""
    return f"{part}, 95 % interval {percent(row['low'])}–{percent(row['high'])}"


def _claims() -> list[Claim]:
    def measures(command: str, more: str = "") -> str:
        return f"not here yet; `paw-mlx bench {command}` measures it{more}"

    accuracy, speed = measures("accuracy fuzzybench"), measures("speed")
    dense, large = measures("speed --bits 16"), measures(f"speed {_32B}")
    large += ", with room for the baseline in 16 bits"
    paired = measures("speed --bits 4", ": both in the same number of bits")
    cached = "nothing measures it: the loads of `paw-mlx bench speed` are of files that are cached"
    answers = {
        "accuracy, program": (73.78, "program"),
        "accuracy, 0.6B prompted": (9.84, "prompted"),
        "accuracy, 32B prompted": (68.70, "baseline"),
        "accuracy, one fixed LoRA": (52.10, "fixed"),
    }
    return [
        *(
            Claim(what, paper, "%", "accuracy", _accuracy(method), accuracy)
            for what, (paper, method) in answers.items()
        ),
        Claim("decode, program", 31.6, "tok/s", "speed", _decode, speed),
        Claim("cold load", 0.48, "s", "speed", lambda made: None, cached),
        Claim("memory, program, 16 bits", 1.2, "GB", "speed", _memory("program"), dense),
        Claim("memory, 32B, 16 bits", 60.0, "GB", "speed", _memory("baseline"), large),
        Claim("memory, 32B : program", 50.0, "×", "speed", _times_smaller, paired),
    ]
