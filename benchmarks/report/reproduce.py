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
_MODELS = {"program": "qwen3-0.6b", "baseline": "qwen3-32b"}  # the paper's

Found = tuple[float, str]  # a figure, and which row it is of
Find = Callable[[Report], Found | None]


class Claim(NamedTuple):
    """A figure of the paper, how a report answers it, what is said if none does."""

    what: str
    paper: float
    unit: str
    find: Find
    otherwise: str


def claims(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """Return the paper's table, answered from these reports."""

    def rank(made: Report) -> tuple[bool, bool, str]:
        return not made["settings"].get("partial"), not _quick(made), made["date"]

    best, rows = sorted(reports, key=rank, reverse=True), []
    for claim in CLAIMS:
        here, ratio, note = None, None, claim.otherwise
        for made in best:
            if found := claim.find(made):
                here, of = found
                weights = ", synthetic weights" if made["synthetic"] else ""
                note = f"{of}{_quick(made)}{weights}; {chip(made)}, {made['date'][:10]}"
                ratio = here / claim.paper
                break
        row = {"what": claim.what, "paper": claim.paper, "unit": claim.unit}
        rows.append(row | {"here": here, "ratio": ratio, "note": note})
    return rows


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
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            try:
                found.append(report.load(file))
            except (FormatError, NotFound):
                if file is path:
                    raise
    return found


def _quick(made: Report) -> str:
    """How little `--quick` measured, "" for another run."""
    rounds, tokens = (made["settings"].get(key) for key in ("rounds", "num_decode"))
    is_full = made["kind"] != "speed" or tokens is None or tokens >= _FULL_TOKENS
    return "" if is_full else f", quick (rounds: {rounds}, tokens: {tokens})"


def _is(name: Any, who: str) -> bool:
    """Whether a name is the paper's model, in whatever form: `mlx-community/Qwen3-32B-4bit`."""
    last = str(name).lower().partition(",")[0].rpartition("/")[2]
    return re.match(rf"{re.escape(_MODELS[who])}(?!\w|[-.]?base)", last) is not None


def _measured(made: Report, who: str) -> list[Record]:
    """Rows of the program or the baseline on the paper's models, those of the fewest bits first."""
    rows = made["rows"] if made["kind"] == "speed" else []
    rows = [row for row in rows if row["subject"] == who and _is(row.get("model"), who)]
    rows = [row for row in rows if not row.get("skipped")]
    return sorted(rows, key=lambda row: row.get("bits") or math.inf)


def _speed(who: str, key: str, scale: float = 1, bits: int | None = None) -> Find:
    """A figure in so many bits, if any; float32 counts as 16, and is not meant."""

    def find(made: Report) -> Found | None:
        for row in _measured(made, who):
            value, wide = mid(row.get(key)), "float32" in str(row.get("form"))
            if value is not None and (bits is None or (bits == row.get("bits") and not wide)):
                return value / scale, subject(row)
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


def _accuracy(method: str) -> Find:
    """Accuracy on FuzzyBench: of the paper's base, and of its large model for the baseline."""

    def find(made: Report) -> Found | None:
        settings = made["settings"]
        source, large = str(settings.get("source")), str(settings.get("baseline"))
        right = source.partition("/")[0] == "fuzzybench" and not made["synthetic"]
        right = right and _is(settings.get("interpreter"), "program")
        if method == "baseline":
            right = right and _is(large, "baseline")
        for row in made["rows"] if right and made["kind"] == "accuracy" else ():
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


def _by(command: str, more: str = "") -> str:
    return f"not here yet; `paw-mlx bench {command}` measures it{more}"


_FUZZY = _by("accuracy fuzzybench")
_LARGE = _by(
    "speed --bits 16 --baseline-model Qwen/Qwen3-32B", ", with room for the baseline in 16 bits"
)
_PAIRED = _by("speed --bits 4", ": both in the same number of bits")
_CACHED = "nothing measures it: the loads of `paw-mlx bench speed` are of files that are cached"
_16 = ("active_bytes", 1e9, 16)
CLAIMS = (
    Claim("accuracy, program", 73.78, "%", _accuracy("program"), _FUZZY),
    Claim("accuracy, 0.6B prompted", 9.84, "%", _accuracy("prompted"), _FUZZY),
    Claim("accuracy, 32B prompted", 68.70, "%", _accuracy("baseline"), _FUZZY),
    Claim("accuracy, one fixed LoRA", 52.10, "%", _accuracy("fixed"), _FUZZY),
    Claim("decode, program", 31.6, "tok/s", _speed("program", "decode_tok_s"), _by("speed")),
    Claim("cold load", 0.48, "s", lambda made: None, _CACHED),
    Claim("memory, program, 16 bits", 1.2, "GB", _speed("program", *_16), _by("speed --bits 16")),
    Claim("memory, 32B, 16 bits", 60.0, "GB", _speed("baseline", *_16), _LARGE),
    Claim("memory, 32B : program", 50.0, "×", _times_smaller, _PAIRED),
)
