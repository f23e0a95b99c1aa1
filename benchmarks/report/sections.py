"""What is shown of a report: for each kind its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from paw_mlx.benchmarks.report import headings, shares
from paw_mlx.benchmarks.report.headings import bits, subject
from paw_mlx.benchmarks.report.tables import (
    Column,
    Record,
    Table,
    bytes_unit,
    figures,
    mid,
    number,
    percent,
    words,
)

_MEMORY = {
    "weights": "weight_bytes",
    "adapter": "adapter_bytes",
    "active": "active_bytes",
    "peak": "peak_bytes",
    "expected": "expected_peak_bytes",
    "cache": "cache_bytes",
    "process peak": "footprint_peak_bytes",
}

Rows = Sequence[Record]


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a report, in the order they are read."""
    rows = [row for row in report["rows"] if not row.get("skipped")]
    skipped = [row for row in report["rows"] if row.get("skipped")]
    first, *rest = _TABLES[report["kind"]](rows)
    partial = report["settings"].get("partial")
    notes = [f"Partial, for the run was cut short: {partial}"] if partial else []
    notes += [f"{subject(row)}: skipped, {row['skipped']}" for row in skipped]
    return [replace(first, notes=[*notes, *first.notes, *headings.notes(report)]), *rest]


def calls_s(row: Record, num: str) -> float | None:
    """Return calls per second with so many at once."""
    return mid((row.get("calls_s") or {}).get(num))


def nums_at_once(rows: Rows) -> list[str]:
    """Return the numbers of calls at once that any row was measured with, in order."""
    return sorted({num for row in rows for num in row.get("calls_s") or {}}, key=int)


def same_bits(row: Record, other: Record) -> bool:
    """Return whether both are known to be in the same number of bits."""
    return row.get("bits") is not None and row["bits"] == other.get("bits")


def _speed(rows: Rows) -> Iterator[Table]:
    unit, scale = bytes_unit([row.get("peak_bytes") for row in rows])
    name, nums = words("subject", subject), nums_at_once(rows)
    tokens = [
        name,
        *_RATES,
        Column("ceiling", "tok/s", lambda row: number(row.get("ceiling_tok_s"))),
        Column("reached", "%", _reached),
        figures("a token reads", unit, "token_bytes", scale),
        words("engine", "engine"),
    ]
    waits = [
        name,
        figures("load", "s", "load_s"),
        figures("first, cold", "ms", "ttft_cold_s", 1e-3),
        figures("first, warm", "ms", "ttft_warm_s", 1e-3),
        *(figures(f"{n} at once", "calls/s", lambda row, n=n: calls_s(row, n)) for n in nums),
    ]
    sizes = [name, *(figures(head, unit, key, scale) for head, key in _MEMORY.items())]
    unknown = rows and all(row.get("ceiling_tok_s") is None for row in rows)
    notes = ["No ceiling: this machine's memory bandwidth is not certain."] if unknown else []
    yield Table("Tokens per second", tokens, rows, notes)
    notes = [f"{subject(row)}: left out, {row['left_out']}" for row in rows if row.get("left_out")]
    notes += [
        f"{subject(row)}: {found['together']} of {num} at once decoded together."
        for row in rows
        for num, found in (row.get("calls_s") or {}).items()
        if isinstance(found, Mapping) and found.get("together")
    ]
    yield Table("Load, time to the first token, calls per second", waits, rows, notes)
    yield Table("Memory", sizes, rows, _forms(rows))
    yield from _ratios(rows)


def _reached(row: Record) -> str | None:
    """The share of its ceiling that decoding reached; None where no ceiling is certain."""
    ceiling, found = row.get("ceiling_tok_s"), mid(row.get("decode_tok_s"))
    certain = isinstance(ceiling, int | float) and ceiling and found
    return percent(found / ceiling, 0) if certain else None


def _forms(rows: Rows) -> list[str]:
    """What a number of bits stands for, or a base as it is."""
    forms: dict[str, list[str]] = {}
    for row in rows:
        name = bits(row) or subject(row)
        if row.get("form") and row["form"] != name:
            forms.setdefault(name, []).append(row["form"])
    return [f"{name}: {'; '.join(dict.fromkeys(found))}" for name, found in forms.items()]


def _ratios(rows: Rows) -> Iterator[Table]:
    """Every baseline against the program of the same bits, or against all if there is none."""
    programs = [row for row in rows if row["subject"] == "program"]
    pairs = []
    for baseline in (row for row in rows if row["subject"] == "baseline"):
        alike = [row for row in programs if same_bits(row, baseline)]
        pairs += [{"program": row, "baseline": baseline} for row in alike or programs]
    if not pairs:
        return
    paired, nums = all(same_bits(*pair.values()) for pair in pairs), nums_at_once(rows)
    columns = [
        *(
            words(who, lambda pair, w=who: subject({**pair[w], "subject": None}))
            for who in pairs[0]
        ),
        _ratio("prefill", "speed", lambda row: mid(row.get("prefill_tok_s"))),
        _ratio("decode", "speed", lambda row: mid(row.get("decode_tok_s"))),
        *(
            _ratio(f"{num} at once", "calls/s", lambda row, num=num: calls_s(row, num))
            for num in dict.fromkeys([*nums[:1], *nums[-1:]])
        ),
        _ratio("active", "memory", lambda row: row.get("active_bytes")),
        _ratio("peak", "memory", lambda row: row.get("peak_bytes")),
    ]
    notes = [] if paired else ["Not all are in the same number of bits."]
    yield Table("Program : baseline", columns, pairs, notes)


def _ratio(head: str, unit: str, value: Callable[..., float | None]) -> Column:
    """The program's figure over the baseline's; of memory, a part is said as 1/n."""

    def show(pair: Record) -> str | None:
        ours, theirs = value(pair["program"]), value(pair["baseline"])
        if not (ours and theirs):
            return None
        is_part = unit == "memory" and theirs > ours
        return f"1/{number(theirs / ours)}" if is_part else f"{number(ours / theirs)}×"

    return Column(head, unit, show)


def _spread(row: Record) -> str | None:
    """The ends of what was measured more than once."""
    found = row.get("decode_tok_s")
    several = isinstance(found, Mapping) and found["num"] > 1
    return number([found["min"], found["max"]]) if several else None


_RATES = (
    figures("prefill", "tok/s", "prefill_tok_s"),
    figures("decode", "tok/s", "decode_tok_s"),
    Column("min–max", "tok/s", _spread),
)


def _compile(rows: Rows) -> Iterator[Table]:
    """A column for every phase that the rows name; a last row of medians."""
    done = [row for row in rows if not row.get("error")]
    notes = [f"{row['spec']}: failed, {row['error']}" for row in rows if row.get("error")]
    keys = dict.fromkeys(key for row in done for key in row if key.endswith(("_s", "_bytes")))
    peaks = [key for key in keys if key.endswith("_peak_bytes")]
    phases = [key for key in keys if key.endswith("_s") and key != "total_s"]
    if len(done) > 1:
        found = {key: [row[key] for row in done if row.get(key) is not None] for key in keys}
        done = [*done, {"spec": "median"} | {key: median(found[key]) for key in keys if found[key]}]
    unit, scale = bytes_unit([row.get(key) for row in done for key in peaks])

    def columns(keys: Sequence[str], ending: str, unit: str, scale: float = 1) -> list[Column]:
        heads = [key.removesuffix(ending).replace("_", " ") for key in keys]
        found = zip(heads, keys, strict=True)
        return [words("spec", "spec"), *(figures(head, unit, key, scale) for head, key in found)]

    yield Table("Seconds by phase", columns([*phases, "total_s"], "_s", "s"), done, notes)
    if peaks:
        yield Table("Peak memory by phase", columns(peaks, "_peak_bytes", unit, scale), done)


def _versus(rows: Rows) -> Iterator[Table]:
    unit, scale = bytes_unit([row.get("footprint_peak_bytes") for row in rows])
    ours: Record = next((row for row in rows if row["engine"] == "paw-mlx"), {})

    def relative(row: Record) -> str | None:
        found, own = mid(row.get("decode_tok_s")), mid(ours.get("decode_tok_s"))
        return f"{found / own:.2f}×" if found and own else None

    columns = [
        words("engine", lambda row: f"{row['engine']} {row.get('version') or ''}"),
        *_RATES,
        Column("relative", "", relative),
        figures("first token", "ms", "ttft_warm_s", 1e-3),
        figures("calls", "calls/s", "calls_s"),
        figures("process", f"peak {unit}", "footprint_peak_bytes", scale),
        Column("same", "outputs", lambda row: row.get("same_outputs")),
    ]
    notes = [
        f"{row['engine']}: {row[key]}" for key in ("form", "failed") for row in rows if row.get(key)
    ]
    yield Table("Same base, same adapter, in turn", columns, rows, notes)


def _reproduce(rows: Rows) -> Iterator[Table]:
    columns = [
        words("what", "what"),
        Column("paper", "", lambda row: f"{row['paper']:g}"),
        figures("here", "", "here"),
        words("unit", "unit"),
        Column("here : paper", "", lambda row: row.get("ratio") and f"{number(row['ratio'])}×"),
    ]
    whats: dict[str, list[str]] = {}
    for row in rows:
        if row.get("note"):
            whats.setdefault(row["note"], []).append(row["what"])
    notes = [f"{'; '.join(found)}: {note}" for note, found in whats.items()]
    yield Table("Paper and here", columns, rows, notes)


_TABLES: dict[str, Callable[[Rows], Iterator[Table]]] = {
    "speed": _speed,
    "accuracy": shares.accuracy,
    "compile": _compile,
    "quality": shares.quality,
    "versus": _versus,
    "reproduce": _reproduce,
}
