"""Two results of one kind beside each other: ratios, and what got worse beyond noise.

A figure is worse if it is worse by more than the threshold and the two spreads do not meet:
least and most of several measurements, the 95 % interval of an accuracy. A time or a rate that
was measured once is not judged; of bytes, which do not scatter, the threshold alone decides.
An accuracy changes in points, anything else as a ratio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paw_mlx.benchmarks.report import Report
from paw_mlx.benchmarks.sections import mid, subject
from paw_mlx.benchmarks.tables import Column, Row, Table, number, percent
from paw_mlx.errors import OptionError

# What tells a kind's rows apart.
KEYS = {
    "speed": ("subject", "model", "engine", "bits"),
    "accuracy": ("method", "noise", "group"),
    "compile": ("spec",),
    "versus": ("engine",),
}
_MORE_IS_BETTER = ("tok_s", "calls_s", "accuracy")
_COMPARED = ("tok_s", "calls_s", "_s", "active_bytes", "peak_bytes", "accuracy", "seconds")
_NOT_OURS = ("expected_peak_bytes", "ceiling_tok_s")  # arithmetic
_PAIRED = (
    "Accuracies change in points. Their intervals are compared as those of different rows; "
    "where both results are of the same rows, a smaller change may count."
)
_MACHINE = ("chip", "gpu", "gpu_cores", "memory_bytes", "device", "os", "python", "mlx", "mlx_lm")


def compare(before: Report, after: Report, threshold: float) -> dict[str, Any]:
    """What changed: {"kind", "threshold", "rows", "warnings", "num_worse"}.

    A row is {"name", "metric", "before", "after", "ratio", "verdict"}: "worse", "better" or
    None. OptionError for results of two kinds, or of `bench reproduce`.
    """
    if before["kind"] != after["kind"]:
        raise OptionError(f"one result is of {before['kind']}, the other of {after['kind']}")
    kind = before["kind"]
    if kind not in KEYS:
        raise OptionError(
            f"results of {kind} are not compared", hint="Compare those that they were made from."
        )
    old, new = ({_key(kind, row): row for row in r["rows"]} for r in (before, after))
    if kind == "speed":
        _align(old, new)
        _align(new, old)
    rows = [
        judged(_name(new[key]), metric, was, now, threshold)
        for key in old
        if key in new
        for metric, was, now in _pairs(old[key], new[key])
    ]
    warnings = [*_differences(before, after), *_unmatched(old, new)]
    return {
        "kind": kind,
        "threshold": threshold,
        "rows": rows,
        "warnings": warnings,
        "num_worse": sum(row["verdict"] == "worse" for row in rows),
    }


def judged(name: str, metric: str, before: Any, after: Any, threshold: float) -> dict[str, Any]:
    """One figure then and now, each a number or {"median", "min", "max"}."""
    old, new = mid(before), mid(after)
    assert old is not None
    assert new is not None
    ratio = new / old if old else None
    up = metric.partition(",")[0].endswith(_MORE_IS_BETTER)
    if metric == "accuracy":
        gain = new - old
    else:
        gain = 0.0 if ratio is None else ratio - 1 if up else 1 - ratio
    apart = _ends(after)[0] > _ends(before)[1] or _ends(after)[1] < _ends(before)[0]
    verdict = None
    if _is_sure(metric, before, after) and apart and abs(gain) > threshold:
        verdict = "better" if gain > 0 else "worse"
    found = {"name": name, "metric": metric, "before": before, "after": after}
    return found | {"ratio": ratio, "verdict": verdict}


def table(found: Mapping[str, Any]) -> Table:
    """The comparison as a table; each row's name once."""
    rows, last = [], None
    for row in found["rows"]:
        rows.append(row | {"name": None if row["name"] == last else row["name"]})
        last = row["name"]
    columns = [
        Column("", "", lambda row: row["name"] or " ", left=True),
        Column("figure", "", lambda row: _label(row["metric"]), left=True),
        Column("before", "", lambda row: _shown(row, "before")),
        Column("after", "", lambda row: _shown(row, "after")),
        Column("change", "", _change),
        Column("", "", lambda row: row["verdict"] or " ", left=True),
    ]
    paired, unit = ([_PAIRED], "points") if found["kind"] == "accuracy" else ([], "%")
    share = f"{100 * found['threshold']:g} {unit}"
    end = f"{found['num_worse']} of {len(rows)} figures are worse by more than {share}"
    notes = [*found["warnings"], *paired, f"{end} and beyond both spreads."]
    if any(not _is_sure(row["metric"], row["before"], row["after"]) for row in rows):
        notes.append("Times and rates that were measured once are not judged.")
    return Table("Before and after", columns, rows, notes)


def _key(kind: str, row: Row) -> tuple[Any, ...]:
    """What a row is of; a model goes by its last name: `mlx-community/m` is `m`."""
    model = str(row.get("model")).rsplit("/", 1)[-1]
    return tuple(model if name == "model" else row.get(name) for name in KEYS[kind])


def _align(rows: dict[Any, Row], others: Mapping[Any, Row]) -> None:
    """Key a row that was skipped before its bits were known as the other result's row."""
    for key, row in list(rows.items()):
        if row.get("skipped") and row.get("bits") is None and key not in others:
            alike = [other for other in others if other[:-1] == key[:-1] and other not in rows]
            if len(alike) == 1:
                rows[alike[0]] = rows.pop(key)


def _name(row: Row) -> str:
    return subject(row) + (f", {row['group']}" if row.get("group", "all") != "all" else "")


def _pairs(old: Row, new: Row) -> Iterator[tuple[str, Any, Any]]:
    """The figures that both rows have, flattened: `calls_s, 8 at once` is one."""
    before, after = _figures(old), _figures(new)
    yield from ((metric, before[metric], after[metric]) for metric in before if metric in after)


def _figures(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        if key in _NOT_OURS or not key.endswith(_COMPARED) or value is None:
            continue
        if isinstance(value, Mapping) and "median" not in value:
            found |= {f"{key}, {num} at once": each for num, each in value.items()}
        elif key == "accuracy":
            ends = {"min": row["low"], "max": row["high"]}
            found[key] = {"median": value, **ends, "num": row["num"]}
        else:
            found[key] = value
    return found


def _ends(value: Any) -> tuple[float, float]:
    return (value["min"], value["max"]) if isinstance(value, Mapping) else (value, value)


def _is_sure(metric: str, *values: Any) -> bool:
    """Whether figures can be judged: bytes always, others if measured more than once."""
    once = [not isinstance(value, Mapping) or value["num"] < 2 for value in values]
    return metric.endswith("_bytes") or not any(once)


def _differences(before: Report, after: Report) -> Iterator[str]:
    """What else is not the same."""
    if before["synthetic"] != after["synthetic"]:
        which = "before" if before["synthetic"] else "after"
        yield f"Synthetic weights {which}, real ones in the other result."
    for what, names in (("machine", _MACHINE), ("settings", None)):
        old, new = before[what], after[what]
        keys = names or sorted({*old, *new})
        for key in keys:
            if old.get(key) != new.get(key):
                yield f"Another {key.replace('_', ' ')}: {old.get(key)}, then {new.get(key)}."
    for report, when in ((before, "before"), (after, "after")):
        start = report["conditions"].get("start") or {}
        if start.get("power") == "battery" or start.get("low_power"):
            yield f"On battery or in low power mode {when}."


def _unmatched(old: Mapping[Any, Row], new: Mapping[Any, Row]) -> Iterator[str]:
    yield from (f"Only before: {_name(old[key])}." for key in old if key not in new)
    yield from (f"Only after: {_name(new[key])}." for key in new if key not in old)
    for key in [key for key in old if key in new]:
        for one, other, when in ((old[key], new[key], "before"), (new[key], old[key], "after")):
            if one.get("skipped") and not other.get("skipped"):
                yield f"Skipped {when}: {_name(other)}, {one['skipped']}."


def _label(metric: str) -> str:
    key, comma, rest = metric.partition(",")
    for ending, words in (("tok_s", "tok/s"), ("calls_s", "calls/s"), ("_s", ""), ("_bytes", "")):
        if key.endswith(ending):
            key = key.removesuffix(ending) + words
            break
    return key.replace("_", " ") + comma + rest


def _change(row: Row) -> str | None:
    """A ratio; of accuracies, which may be 0, the difference in points."""
    if row["metric"] == "accuracy":
        return f"{100 * (row['after']['median'] - row['before']['median']):+.1f} points"
    return row["ratio"] and f"{row['ratio']:.2f}×"


def _shown(row: Row, when: str) -> str | None:
    """The figure in the middle; the spread is in the JSON."""
    value, metric = mid(row[when]) or 0, row["metric"]
    if metric.endswith("_bytes"):
        return f"{number(value / 1e6)} MB"
    if metric == "accuracy":
        return f"{percent(value)} %"
    if metric.partition(",")[0].endswith(_MORE_IS_BETTER):
        return number(value)
    return f"{number(value)} s" if value >= 1 else f"{number(1e3 * value)} ms"
