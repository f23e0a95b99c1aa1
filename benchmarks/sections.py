"""What is shown of a report: for each kind its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from paw_mlx.benchmarks import headings
from paw_mlx.benchmarks.headings import bits, subject
from paw_mlx.benchmarks.tables import Column, Row, Table, either, number, percent, span

GROUPS = {"kind": "kind of output", "length": "length", "category": "category"}
GROUPS |= {"function": "function"}
_MOST = 24  # groups of one sort; the JSON has them all
_MEMORY = {
    "weights": "weight_bytes",
    "adapter": "adapter_bytes",
    "active": "active_bytes",
    "peak": "peak_bytes",
    "expected": "expected_peak_bytes",
    "cache": "cache_bytes",
    "process peak": "footprint_peak_bytes",
}


def tables(report: Mapping[str, Any]) -> list[Table]:
    """The tables of a report, in the order they are read."""
    rows = [row for row in report["rows"] if not row.get("skipped")]
    found = list(_TABLES[report["kind"]](rows))
    skipped = [
        f"{subject(row)}: skipped, {row['skipped']}" for row in report["rows"] if row.get("skipped")
    ]
    first, *rest = found
    notes = [*headings.partial(report), *skipped, *first.notes, *headings.notes(report)]
    return [replace(first, notes=notes), *rest]


def calls_s(row: Row, num: str) -> float | None:
    """Calls per second with so many at once; of one figure, whatever the number."""
    found = row.get("calls_s")
    by_num = isinstance(found, Mapping) and "median" not in found
    return mid(found.get(num) if by_num else found)


def nums_at_once(rows: Sequence[Row]) -> list[str]:
    """The numbers of calls at once that any row was measured with, in order."""
    found = {num for row in rows for num in row.get("calls_s") or {}}
    return sorted(found, key=int)


def mid(value: Any) -> float | None:
    """A Stat's median, or the number itself."""
    return value.get("median") if isinstance(value, Mapping) else value


def in_bytes(values: Sequence[float | None]) -> tuple[str, float]:
    """The unit for sizes shown together, and how many bytes it is."""
    return ("GB", 1e9) if max((v or 0 for v in values), default=0) >= 1e9 else ("MB", 1e6)


def by_sort(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of groups under the sort of group that they are: kind, length, category, function."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        sort, colon, _ = str(row["group"]).partition(": ")
        if colon:
            found.setdefault(sort, []).append(row)
    return found


def method(row: Row) -> str:
    """`program`, or `program, typos`."""
    return row["method"] + (f", {row['noise']}" if row.get("noise") else "")


def _speed(rows: Sequence[Row]) -> Iterator[Table]:
    unknown = bool(rows) and all(row.get("ceiling_tok_s") is None for row in rows)
    notes = ["No ceiling: this machine's memory bandwidth is not certain."] if unknown else []
    unit, scale = in_bytes([row.get("peak_bytes") for row in rows])
    name = Column("subject", "", subject, left=True)
    tokens = [
        _median("prefill", "tok/s", "prefill_tok_s"),
        _median("decode", "tok/s", "decode_tok_s"),
        _spread("min–max", "tok/s", "decode_tok_s"),
        Column("ceiling", "tok/s", lambda row: either(row.get("ceiling_tok_s"))),
        Column("reached", "%", lambda row: percent(reached(row), 0)),
        _size("a token reads", unit, scale, "token_bytes"),
        Column("engine", "", lambda row: row.get("engine"), left=True),
    ]
    waits = [
        _median("load", "s", "load_s"),
        _median("first, cold", "ms", "ttft_cold_s", 1e3),
        _median("first, warm", "ms", "ttft_warm_s", 1e3),
        *(_calls(num) for num in nums_at_once(rows)),
    ]
    sizes = [_size(head, unit, scale, key) for head, key in _MEMORY.items()]
    yield Table("Tokens per second", [name, *tokens], rows, notes)
    out = [f"{subject(row)}: left out, {row['left_out']}" for row in rows if row.get("left_out")]
    out += [note for row in rows for note in _fewer(row)]
    yield Table("Load, time to the first token, calls per second", [name, *waits], rows, out)
    yield Table("Memory", [name, *sizes], rows, _forms(rows))
    yield from _ratios(rows)


def _fewer(row: Row) -> Iterator[str]:
    """The calls at once of which fewer decoded together, for want of memory."""
    for num, found in (row.get("calls_s") or {}).items():
        if isinstance(found, Mapping) and found.get("together"):
            yield f"{subject(row)}: {found['together']} of {num} at once decoded together."


def _forms(rows: Sequence[Row]) -> list[str]:
    """What a number of bits stands for, or a base as it is."""
    forms: dict[str, list[str]] = {}
    for row in rows:
        name = ", ".join(bits(row)) or subject(row)
        if row.get("form") and row["form"] != name:
            forms.setdefault(name, []).append(row["form"])
    return [f"{name}: {'; '.join(dict.fromkeys(found))}" for name, found in forms.items()]


def reached(row: Row) -> float | None:
    """The share of its ceiling that decoding reached; None where no ceiling is certain."""
    ceiling, found = row.get("ceiling_tok_s"), mid(row.get("decode_tok_s"))
    return found / ceiling if isinstance(ceiling, int | float) and ceiling and found else None


def _ratios(rows: Sequence[Row]) -> Iterator[Table]:
    """Every baseline against the program of the same bits, or against all if there is none."""
    programs = [row for row in rows if row["subject"] == "program"]
    pairs = []
    for baseline in (row for row in rows if row["subject"] == "baseline"):
        alike = [row for row in programs if same_bits(row, baseline)]
        pairs += [{"program": row, "baseline": baseline} for row in alike or programs]
    if not pairs:
        return
    paired = all(same_bits(pair["program"], pair["baseline"]) for pair in pairs)
    notes = [] if paired else ["Not all are in the same number of bits."]
    nums = nums_at_once(rows)
    columns = [
        Column("program", "", lambda pair: _model(pair["program"]), left=True),
        Column("baseline", "", lambda pair: _model(pair["baseline"]), left=True),
        _ratio("prefill", "speed", lambda row: mid(row.get("prefill_tok_s"))),
        _ratio("decode", "speed", lambda row: mid(row.get("decode_tok_s"))),
        *(
            _ratio(f"{num} at once", "calls/s", lambda row, num=num: calls_s(row, num))
            for num in sorted({*nums[:1], *nums[-1:]}, key=int)
        ),
        _ratio("active", "memory", lambda row: row.get("active_bytes"), inverse=True),
        _ratio("peak", "memory", lambda row: row.get("peak_bytes"), inverse=True),
    ]
    yield Table("Program : baseline", columns, pairs, notes)


def same_bits(row: Row, other: Row) -> bool:
    """Whether both are known to be in the same number of bits."""
    return row.get("bits") is not None and row["bits"] == other.get("bits")


def _accuracy(rows: Sequence[Row]) -> Iterator[Table]:
    overall = [row for row in rows if row["group"] == "all"]
    columns = [
        Column("method", "", lambda row: row["method"], left=True),
        Column("noise", "", lambda row: row.get("noise"), left=True),
        Column("rows", "", lambda row: f"{row['num']:,}"),
        Column("right", "", lambda row: f"{row['correct']:,}"),
        Column("failed", "", lambda row: row.get("failed") and f"{row['failed']:,}"),
        Column("accuracy", "%", lambda row: percent(row["accuracy"])),
        Column("95 % interval", "%", _interval),
        *(
            Column(name, "%", lambda row, key=key: percent(row.get(key)))
            for name, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
        ),
        Column("to make it", "s", lambda row: number(row.get("seconds"))),
    ]
    notes = [
        f"{method(row)} is {row['same_as']}: both learn from all rows there are."
        for row in overall
        if row.get("same_as")
    ]
    yield Table("All rows", columns, overall, notes)
    for sort, found in by_sort(rows).items():
        yield _matrix(sort, found)


def _matrix(sort: str, rows: Sequence[Row]) -> Table:
    """Groups down, methods across; in each cell the accuracy and its interval."""
    methods = list(dict.fromkeys(method(row) for row in rows))
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = str(row["group"]).partition(": ")[2]
        group = groups.setdefault(name, {"group": name, "num": row["num"]})
        group[method(row)] = f"{percent(row['accuracy'], 0)} ({_interval(row, 0)})"
    columns = [
        Column(sort, "", lambda row: row["group"], left=True),
        Column("rows", "", lambda row: f"{row['num']:,}"),
        *(Column(name, "%", lambda row, name=name: row.get(name)) for name in methods),
    ]
    hidden = len(groups) - _MOST
    notes = [f"{hidden} more in the JSON."] if hidden > 0 else []
    shown = list(groups.values())[:_MOST]
    return Table(f"By {GROUPS.get(sort, sort)}", columns, shown, notes, main=sort == "kind")


def _interval(row: Row, digits: int = 1) -> str:
    return f"{percent(row['low'], digits)}–{percent(row['high'], digits)}"


def _compile(rows: Sequence[Row]) -> Iterator[Table]:
    """A column for every phase that the rows name; a last row of medians."""
    done = [row for row in rows if not row.get("error")]
    notes = [f"{row['spec']}: failed, {row['error']}" for row in rows if row.get("error")]
    if len(done) > 1:
        done = [*done, {"spec": "median"} | _medians(done)]
    names = list(dict.fromkeys(key for row in done for key in row))
    seconds = [key for key in names if key.endswith("_s") and key != "total_s"]
    peaks = [key for key in names if key.endswith("_peak_bytes")]
    unit, scale = in_bytes([row.get(key) for row in done for key in peaks])
    spec = Column("spec", "", lambda row: row["spec"], left=True)
    phases = [_median(_words(key, "_s"), "s", key) for key in (*seconds, "total_s")]
    sizes = [_size(_words(key, "_peak_bytes"), unit, scale, key) for key in peaks]
    yield Table("Seconds by phase", [spec, *phases], done, notes)
    if peaks:
        yield Table("Peak memory by phase", [spec, *sizes], done)


def _medians(rows: Sequence[Row]) -> dict[str, float]:
    from statistics import median

    keys = dict.fromkeys(key for row in rows for key in row if key.endswith(("_s", "_bytes")))
    found = {key: [v for row in rows if (v := mid(row.get(key))) is not None] for key in keys}
    return {key: median(values) for key, values in found.items() if values}


def _versus(rows: Sequence[Row]) -> Iterator[Table]:
    unit, scale = in_bytes([row.get("footprint_peak_bytes") for row in rows])
    ours = next((row for row in rows if row["engine"] == "paw-mlx"), None)

    def beside(row: Row) -> str | None:
        found, own = mid(row.get("decode_tok_s")), ours and mid(ours.get("decode_tok_s"))
        return f"{found / own:.2f}×" if found and own else None

    columns = [
        Column("engine", "", lambda row: f"{row['engine']} {row.get('version') or ''}", left=True),
        _median("prefill", "tok/s", "prefill_tok_s"),
        _median("decode", "tok/s", "decode_tok_s"),
        _spread("min–max", "tok/s", "decode_tok_s"),
        Column("relative", "", beside),
        _median("first token", "ms", "ttft_warm_s", 1e3),
        _median("calls", "calls/s", "calls_s"),
        _size("process", f"peak {unit}", scale, "footprint_peak_bytes"),
        Column("same", "outputs", lambda row: row.get("same_outputs")),
    ]
    notes = [
        f"{row['engine']}: {row[key]}" for key in ("form", "failed") for row in rows if row.get(key)
    ]
    yield Table("Same base, same adapter, in turn", columns, rows, notes)


def _reproduce(rows: Sequence[Row]) -> Iterator[Table]:
    columns = [
        Column("what", "", lambda row: row["what"], left=True),
        Column("paper", "", lambda row: f"{row['paper']:g}"),
        Column("here", "", lambda row: number(row.get("here"))),
        Column("unit", "", lambda row: row.get("unit"), left=True),
        Column("here : paper", "", lambda row: row.get("ratio") and f"{number(row['ratio'])}×"),
    ]
    whats: dict[str, list[str]] = {}
    for row in rows:
        if row.get("note"):
            whats.setdefault(row["note"], []).append(row["what"])
    notes = [f"{'; '.join(found)}: {note}" for note, found in whats.items()]
    yield Table("Paper and here", columns, rows, notes)


_TABLES: dict[str, Callable[[Sequence[Row]], Iterator[Table]]] = {
    "speed": _speed,
    "accuracy": _accuracy,
    "compile": _compile,
    "versus": _versus,
    "reproduce": _reproduce,
}


def _median(name: str, unit: str, key: str, scale: float = 1) -> Column:
    def show(row: Row) -> str | None:
        found = mid(row.get(key))
        return None if found is None else number(scale * found)

    return Column(name, unit, show)


def _spread(name: str, unit: str, key: str) -> Column:
    def show(row: Row) -> str | None:
        found = row.get(key)
        alone = not isinstance(found, Mapping) or found["num"] < 2
        return None if alone else span(found["min"], found["max"])

    return Column(name, unit, show)


def _size(name: str, unit: str, scale: float, key: str) -> Column:
    def show(row: Row) -> str | None:
        return None if row.get(key) is None else number(row[key] / scale)

    return Column(name, unit, show)


def _calls(num: str) -> Column:
    return Column(f"{num} at once", "calls/s", lambda row: number(calls_s(row, num)))


def _ratio(
    name: str, unit: str, value: Callable[..., float | None], inverse: bool = False
) -> Column:
    def show(pair: Row) -> str | None:
        ours, theirs = value(pair["program"]), value(pair["baseline"])
        if not (ours and theirs):
            return None
        part = inverse and theirs > ours
        return f"1/{number(theirs / ours)}" if part else f"{number(ours / theirs)}×"

    return Column(name, unit, show)


def _model(row: Row) -> str:
    return subject({**row, "subject": None})


def _words(key: str, ending: str) -> str:
    return key.removesuffix(ending).replace("_", " ")
