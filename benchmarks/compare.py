"""Two results of one kind beside each other: ratios, and what got worse beyond noise.

A figure is worse if it is worse by more than the threshold and the two spreads do not meet:
least and most of several measurements, the 95 % interval of an accuracy. A time or a rate that
was measured once is not judged, except that seconds of compiling are worse once they double.
Of bytes, which do not scatter, and of shares without an interval the threshold alone decides.
Shares change in points, anything else as a ratio. A row that is no longer measured is worse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from paw_mlx.benchmarks.headings import subject
from paw_mlx.benchmarks.machine import power_mode
from paw_mlx.benchmarks.report import Report
from paw_mlx.benchmarks.sections import mid
from paw_mlx.benchmarks.tables import Column, Row, Table, number, percent
from paw_mlx.errors import OptionError

# What tells a kind's rows apart.
KEYS = {
    "speed": ("subject", "model", "engine", "bits"),
    "accuracy": ("method", "noise", "group"),
    "compile": ("spec",),
    "versus": ("engine",),
}
_UNBOUNDED = ("precision", "recall", "f1", "same_outputs")  # shares without an interval
_SHARES = ("accuracy", *_UNBOUNDED)
_MORE_IS_BETTER = ("tok_s", "calls_s", *_SHARES)
_COMPARED = ("tok_s", "calls_s", "_s", "active_bytes", "peak_bytes", "seconds", *_SHARES)
_NOT_OURS = ("expected_peak_bytes", "ceiling_tok_s")  # arithmetic
_ONCE = {"compile": 1.0}  # a kind's threshold for what was measured once, if that is judged
_PAIRED = (
    "Accuracies change in points. Their intervals are compared as those of different rows; "
    "where both results are of the same rows, a smaller change may count."
)
_MACHINE = (
    *("chip", "gpu", "gpu_cores", "memory_bytes", "device", "os", "python", "mlx", "mlx_lm"),
    *("wheel", "matrix_units", "blas"),
)
_COOL = (None, "nominal", "no warning recorded")


def compare(before: Report, after: Report, threshold: float) -> dict[str, Any]:
    """What changed: {"kind", "threshold", "rows", "gone", "warnings", "num_worse"}.

    A row is {"name", "metric", "before", "after", "ratio", "verdict"}: "worse", "better" or
    None. `gone` names what was measured before and not after; each counts as worse.
    OptionError for results of two kinds, or of `bench reproduce`.
    """
    if before["kind"] != after["kind"]:
        raise OptionError(f"one result is of {before['kind']}, the other of {after['kind']}")
    kind = before["kind"]
    if kind not in KEYS:
        raise OptionError(
            f"results of {kind} are not compared", hint="Compare those that they were made from."
        )
    old, new = (_keyed(kind, made["rows"]) for made in (before, after))
    if kind == "speed":
        _align(old, new)
        _align(new, old)
    rows = [
        judged(_name(new[key]), metric, was, now, threshold, _ONCE.get(kind))
        for key in old
        if key in new
        for metric, was, now in _pairs(old[key], new[key])
    ]
    gone = [_name(old[key]) for key in old if not _lack(old[key]) and _lack(new.get(key))]
    return {
        "kind": kind,
        "threshold": threshold,
        "rows": rows,
        "gone": gone,
        "warnings": [*_differences(before, after), *_unmatched(old, new)],
        "num_worse": sum(row["verdict"] == "worse" for row in rows) + len(gone),
    }


def judged(
    name: str, metric: str, before: Any, after: Any, threshold: float, once: float | None = None
) -> dict[str, Any]:
    """One figure then and now, each a number or {"median", "min", "max"}.

    `once` is the threshold where it was measured once; None: then it is not judged.
    """
    old, new = mid(before), mid(after)
    assert old is not None
    assert new is not None
    ratio = new / old if old else None
    up = metric.partition(",")[0].endswith(_MORE_IS_BETTER)
    if metric in _SHARES:
        gain = new - old
    else:
        gain = 0.0 if ratio is None else ratio - 1 if up else 1 - ratio
    apart = _ends(after)[0] > _ends(before)[1] or _ends(after)[1] < _ends(before)[0]
    limit = threshold if _is_sure(metric, before, after) else once
    verdict = None
    if limit is not None and apart and abs(gain) > limit:
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
    share, gone = f"{100 * found['threshold']:g} {unit}", len(found["gone"])
    end = f"{found['num_worse'] - gone} of {len(rows)} figures are worse by more than {share}"
    notes = [*found["warnings"], *paired, f"{end} and beyond both spreads."]
    if gone:
        notes.append(f"Rows that are no longer measured, and count as worse: {gone}.")
    if any(row["metric"] in _UNBOUNDED for row in rows):
        notes.append("Of shares without an interval, the threshold alone decides.")
    if any(not _is_sure(row["metric"], row["before"], row["after"]) for row in rows):
        judged_if = "count as worse if they double" if found["kind"] in _ONCE else "are not judged"
        notes.append(f"Times and rates that were measured once {judged_if}.")
    return Table("Before and after", columns, rows, notes)


def _keyed(kind: str, rows: Iterable[Row]) -> dict[Any, Row]:
    """Rows by what they are of, and a number that tells those of the same apart."""
    seen: Counter[Any] = Counter()
    found = {}
    for row in rows:
        key = _key(kind, row)
        found[*key, seen[key]] = row
        seen[key] += 1
    return found


def _key(kind: str, row: Row) -> tuple[Any, ...]:
    """What a row is of; a model goes by its last name: `mlx-community/m` is `m`."""
    model = str(row.get("model")).rsplit("/", 1)[-1]
    return tuple(model if name == "model" else row.get(name) for name in KEYS[kind])


def _align(rows: dict[Any, Row], others: Mapping[Any, Row]) -> None:
    """Key a row that was skipped before its bits were known as the other result's row."""
    for key, row in list(rows.items()):
        if row.get("skipped") and row.get("bits") is None and key not in others:
            alike = [other for other in others if other[:-2] == key[:-2] and other not in rows]
            if len(alike) == 1:
                rows[alike[0]] = rows.pop(key)


def _name(row: Row) -> str:
    return subject(row) + (f", {row['group']}" if row.get("group", "all") != "all" else "")


def _pairs(old: Row, new: Row) -> Iterator[tuple[str, Any, Any]]:
    """The figures that both rows have, flattened: `calls_s, 8 at once` is one."""
    if _lack(old) or _lack(new):
        return
    before, after = _figures(old), _figures(new)
    yield from ((metric, before[metric], after[metric]) for metric in before if metric in after)


def _figures(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        if key in _NOT_OURS or not key.endswith(_COMPARED) or value is None:
            continue
        if key in _UNBOUNDED and row.get("group", "all") != "all":
            continue  # of a few rows, they scatter
        if isinstance(value, Mapping) and "median" not in value:
            found |= {f"{key}, {num} at once": each for num, each in value.items()}
        elif key == "accuracy":
            ends = {"min": row["low"], "max": row["high"]}
            found[key] = {"median": value, **ends, "num": row["num"]}
        elif key == "same_outputs":
            same, _, every = value.partition("/")
            found[key] = int(same) / int(every)
        else:
            found[key] = value
    return found


def _ends(value: Any) -> tuple[float, float]:
    return (value["min"], value["max"]) if isinstance(value, Mapping) else (value, value)


def _is_sure(metric: str, *values: Any) -> bool:
    """Whether figures can be judged: times, rates and accuracies, if measured more than once."""
    once = [not isinstance(value, Mapping) or value["num"] < 2 for value in values]
    return metric.endswith("_bytes") or metric in _UNBOUNDED or not any(once)


def _differences(before: Report, after: Report) -> Iterator[str]:
    """What else is not the same."""
    if before["synthetic"] != after["synthetic"]:
        which = "before" if before["synthetic"] else "after"
        yield f"Synthetic weights {which}, real ones in the other result."
    told = before["machine"].keys() & after["machine"].keys()  # older cards tell less
    compared = {"machine": [key for key in _MACHINE if key in told]}
    compared["settings"] = sorted({*before["settings"], *after["settings"]})
    for what, keys in compared.items():
        old, new = before[what], after[what]
        for key in keys:
            if old.get(key) != new.get(key):
                yield f"Another {key.replace('_', ' ')}: {old.get(key)}, then {new.get(key)}."
    for report, when in ((before, "Before"), (after, "After")):
        if found := _strain(report):
            yield f"{when}: {', '.join(found)}."


def _strain(report: Report) -> list[str]:
    """What slowed a run down or sped it up, as it began or ended."""
    found = []
    for when in ("start", "end"):
        told = report["conditions"].get(when) or {}
        if told.get("power") == "battery":
            found.append("on battery")
        if (mode := power_mode(told)) in ("low", "high"):
            found.append(f"in {mode} power mode")
        if (thermal := told.get("thermal")) not in _COOL:
            found.append(f"thermal state {thermal}")
    return list(dict.fromkeys(found))


def _unmatched(old: Mapping[Any, Row], new: Mapping[Any, Row]) -> Iterator[str]:
    yield from (f"Only before: {_name(old[key])}." for key in old if key not in new)
    yield from (f"Only after: {_name(new[key])}." for key in new if key not in old)
    for key in [key for key in old if key in new]:
        for one, other, when in ((old[key], new[key], "before"), (new[key], old[key], "after")):
            if (why := _lack(one)) and not _lack(other):
                what = "Skipped" if one.get("skipped") else "Failed"
                yield f"{what} {when}: {_name(other)}, {why}."


def _lack(row: Row | None) -> str | None:
    """Why a row has no figures, None if it has them."""
    return "missing" if row is None else row.get("skipped") or row.get("error")


def _label(metric: str) -> str:
    key, comma, rest = metric.partition(",")
    for ending, words in (("tok_s", "tok/s"), ("calls_s", "calls/s"), ("_s", ""), ("_bytes", "")):
        if key.endswith(ending):
            key = key.removesuffix(ending) + words
            break
    return key.replace("_", " ") + comma + rest


def _change(row: Row) -> str | None:
    """A ratio; of shares, which may be 0, the difference in points."""
    if row["metric"] in _SHARES:
        return f"{100 * ((mid(row['after']) or 0) - (mid(row['before']) or 0)):+.1f} points"
    return row["ratio"] and f"{row['ratio']:.2f}×"


def _shown(row: Row, when: str) -> str | None:
    """The figure in the middle; the spread is in the JSON."""
    value, metric = mid(row[when]) or 0, row["metric"]
    if metric.endswith("_bytes"):
        return f"{number(value / 1e6)} MB"
    if metric in _SHARES:
        return f"{percent(value)} %"
    if metric.partition(",")[0].endswith(_MORE_IS_BETTER):
        return number(value)
    return f"{number(value)} s" if value >= 1 else f"{number(1e3 * value)} ms"
