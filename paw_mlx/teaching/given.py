"""A file of pairs as a teacher: its rows go through the same sieve, and nobody is asked."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from pathlib import Path

from ..cases import Case
from ..formats.untrusted import read_bytes
from ..output import Labels
from . import sieve as why
from .answers import read_pairs
from .function import Function
from .pairs_file import PairsFile
from .report import PairsReport
from .sieve import normalize

_MAX_BYTES = 256 << 20


def take_pairs(
    function: Function, source: Path, path: Path, num_pairs: int | None = None
) -> PairsReport:
    """Write the sound pairs of a JSONL file to another, `num_pairs` at most.

    An input that the file gives several outputs is dropped with all of them. NotFound or
    FormatError for the file; errors as of `write_pairs`.
    """
    start, data = time.perf_counter(), read_bytes(source, _MAX_BYTES)
    rows, dropped = _read(data)
    terms = function.record() | {"teacher": hashlib.sha256(data).hexdigest()}
    wanted = num_pairs or len(rows)
    sieve = function.sieve(wanted)
    outputs: dict[str, set[str]] = {}
    for row in rows:
        outputs.setdefault(normalize(row.input), set()).add(sieve.read(row.output) or row.output)
    with PairsFile.open(path, terms) as file:
        state, chosen = file.state, list[Case]()
        for row in rows:
            if len(chosen) == wanted:
                break
            output, reason = sieve.judge(row.input, row.output)
            if len(outputs[normalize(row.input)]) > 1:
                reason = why.CONTRADICTION
            if reason:
                dropped[reason] += 1
                continue
            sieve.add(row.input, output)
            chosen.append(Case(row.input, output))
        for case in chosen[len(file.pairs) :]:
            file.add(case.input, case.output)
        found, state.rounds, state.lines = state.lines, 1, len(file.pairs)
        state.dropped = dropped
        file.save()
    report = PairsReport(source.name, wanted, len(chosen), found, dropped=dropped)
    if isinstance(function.output, Labels):
        report.by_label = {one: sieve.by_output[one] for one in function.output.labels}
    if len(chosen) < wanted and num_pairs:
        report.stopped = f"{source} holds no more"
    report.seconds = time.perf_counter() - start
    return report


def _read(data: bytes) -> tuple[list[Case], Counter[str]]:
    """Return the pairs of a file's lines, and what was no pair."""
    rows, dropped = list[Case](), Counter[str]()
    for line in data.decode(errors="replace").splitlines():
        if line.strip():
            pairs, _ = read_pairs(line)
            rows += [Case(*pair) for pair in pairs]
            dropped[why.MALFORMED] += not pairs
    return rows, +dropped
