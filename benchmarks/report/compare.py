"""Two results of one kind beside each other: ratios, and what got worse beyond noise.

A figure is worse if it is worse by more than the threshold and the two spreads do not meet:
least and most of several measurements, the 95 % interval of an accuracy. A time or a rate that
was measured once is not judged, except that seconds of compiling are worse once they double.
Of bytes, which do not scatter, and of shares without an interval the threshold alone decides.
Shares change in points, anything else as a ratio. A row that is no longer measured is worse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from paw_mlx.benchmarks.report.headings import strains, subject
from paw_mlx.benchmarks.report.report import Report
from paw_mlx.benchmarks.report.tables import Column, Record, Table, mid, number, percent, words
from paw_mlx.errors import OptionError

# What tells a kind's rows apart.
KEYS = {
    "speed": ("subject", "model", "engine", "bits"),
    "accuracy": ("method", "noise", "group"),
    "quality": ("set", "method", "group"),
    "compile": ("spec",),
    "versus": ("engine",),
}
_UNBOUNDED = ("precision", "recall", "f1", "same_outputs")  # shares without an interval
_SHARES = ("accuracy", *_UNBOUNDED)
_MORE_IS_BETTER = ("tok_s", "calls_s", *_SHARES)
_NOT_OURS = ("expected_peak_bytes", "ceiling_tok_s")  # arithmetic
_ONCE = {"compile": 1.0}  # a kind's threshold for what was measured once, if that is judged
_PAIRED = (
    "Accuracies change in points. Their intervals are compared as those of different rows; "
    "where both results are of the same rows, a smaller change may count."
)
_MACHINE = (
    "chip", "gpu", "gpu_cores", "memory_bytes", "device", "os", "python", "mlx", "mlx_lm", "wheel",
    "matrix_units", "blas",
)  # fmt: skip


def _show_time(seconds: float) -> str:
    return f"{number(seconds)} s" if seconds >= 1 else f"{number(1e3 * seconds)} ms"


def _show_bytes(size: float) -> str:
    return f"{number(size / 1e6)} MB"


# What is compared, by the ending of a key: the word in its place, and how a figure is shown.
_METRICS: dict[str, tuple[str, Callable[[float], str | None]]] = {
    "tok_s": ("tok/s", number),
    "calls_s": ("calls/s", number),
    "_s": ("", _show_time),
    "seconds": ("seconds", _show_time),
    "active_bytes": ("active", _show_bytes),
    "peak_bytes": ("peak", _show_bytes),
    **{name: (name, lambda share: f"{percent(share)} %") for name in _SHARES},
}


def compare(before: Report, after: Report, threshold: float) -> dict[str, Any]:
    """Return what changed: {"kind", "threshold", "rows", "gone", "warnings", "num_worse"}.

    A row is {"name", "metric", "before", "after", "ratio", "verdict"}: "worse", "better" or
    None. `gone` names what was measured before and not after; each counts as worse.
    OptionError for results of two kinds, or of `bench reproduce`.
    """
    kind = before["kind"]
    if kind != after["kind"]:
        raise OptionError(f"one result is of {kind}, the other of {after['kind']}")
    if kind not in KEYS:
        raise OptionError(
            f"results of {kind} are not compared", hint="Compare those that they were made from."
        )
    old, new = (_by_key(kind, made["rows"]) for made in (before, after))
    if kind == "speed":
        _align(old, new)
        _align(new, old)
    known = [key for key in old if not _lack(old[key])]
    gone = [_name(old[key]) for key in known if _lack(new.get(key))]
    rows = []
    for key in [key for key in known if not _lack(new.get(key))]:
        was, now = _figures(old[key]), _figures(new[key])
        for metric in [metric for metric in was if metric in now]:
            found = {"name": _name(new[key]), "metric": metric}
            found |= {"before": was[metric], "after": now[metric]}
            rows.append(
                found | _judge(metric, was[metric], now[metric], threshold, _ONCE.get(kind))
            )
    return {
        "kind": kind,
        "threshold": threshold,
        "rows": rows,
        "gone": gone,
        "warnings": [*_differences(before, after), *_unmatched(old, new)],
        "num_worse": sum(row["verdict"] == "worse" for row in rows) + len(gone),
    }


def table(found: Mapping[str, Any]) -> Table:
    """Return the comparison as a table; each row's name once."""
    rows, last = [], None
    for row in found["rows"]:
        label, show = _metric(row["metric"])
        before, after = mid(row["before"]) or 0, mid(row["after"]) or 0
        change = row["ratio"] and f"{row['ratio']:.2f}×"
        if row["metric"] in _SHARES:  # which may be 0
            change = f"{100 * (after - before):+.1f} points"
        name, last = (" " if row["name"] == last else row["name"]), row["name"]
        told = {"name": name, "figure": label, "before": show(before), "after": show(after)}
        rows.append(told | {"change": change, "verdict": row["verdict"] or " "})
    columns = [
        words("", "name"),
        words("figure", "figure"),
        *(Column(key, "", lambda row, key=key: row[key]) for key in ("before", "after", "change")),
        words("", "verdict"),
    ]
    of_shares = found["kind"] in ("accuracy", "quality")
    paired, unit = ([_PAIRED], "points") if of_shares else ([], "%")
    share, gone = f"{100 * found['threshold']:g} {unit}", len(found["gone"])
    end = f"{found['num_worse'] - gone} of {len(rows)} figures are worse by more than {share}"
    notes = [*found["warnings"], *paired, f"{end} and beyond both spreads."]
    if gone:
        notes.append(f"Rows that are no longer measured, and count as worse: {gone}.")
    if any(row["metric"] in _UNBOUNDED for row in found["rows"]):
        notes.append("Of shares without an interval, the threshold alone decides.")
    if not all(_can_judge(row["metric"], row["before"], row["after"]) for row in found["rows"]):
        if_worse = "count as worse if they double" if found["kind"] in _ONCE else "are not judged"
        notes.append(f"Times and rates that were measured once {if_worse}.")
    return Table("Before and after", columns, rows, notes)


def _judge(
    metric: str, before: Any, after: Any, threshold: float, once: float | None
) -> dict[str, Any]:
    """A figure's ratio and verdict, each a number or a Stat; `once` is the threshold where it was
    measured once, None: then it is not judged."""
    old, new = mid(before), mid(after)
    assert old is not None
    assert new is not None
    ratio = new / old if old else None
    gain = new - old if metric in _SHARES else (ratio or 0) - 1 if old else 0.0
    if not metric.partition(",")[0].endswith(_MORE_IS_BETTER):
        gain = -gain
    (low, high), (now_low, now_high) = (
        (each["min"], each["max"]) if isinstance(each, Mapping) else (each, each)
        for each in (before, after)
    )
    limit = threshold if _can_judge(metric, before, after) else once
    verdict = None
    if limit is not None and abs(gain) > limit and (now_low > high or now_high < low):
        verdict = "better" if gain > 0 else "worse"
    return {"ratio": ratio, "verdict": verdict}


def _can_judge(metric: str, *values: Any) -> bool:
    """Whether figures are more than chance: times, rates and accuracies, if measured twice."""
    several = all(isinstance(value, Mapping) and value["num"] > 1 for value in values)
    return several or metric.endswith("_bytes") or metric in _UNBOUNDED


def _by_key(kind: str, rows: Iterable[Record]) -> dict[Any, Record]:
    """Rows by what they are of, and a number that tells those of the same apart.

    A model goes by its last name: `mlx-community/m` is `m`.
    """
    seen: Counter[Any] = Counter()
    found = {}
    for row in rows:
        named = {**row, "model": str(row.get("model")).rsplit("/", 1)[-1]}
        key = tuple(named.get(name) for name in KEYS[kind])
        found[*key, seen[key]] = row
        seen[key] += 1
    return found


def _align(rows: dict[Any, Record], others: Mapping[Any, Record]) -> None:
    """Key a row that was skipped before its bits were known as the other result's row."""
    for key, row in list(rows.items()):
        if row.get("skipped") and row.get("bits") is None and key not in others:
            alike = [other for other in others if other[:-2] == key[:-2] and other not in rows]
            if len(alike) == 1:
                rows[alike[0]] = rows.pop(key)


def _figures(row: Record) -> dict[str, Any]:
    """What is compared of a row, flattened: `calls_s, 8 at once` is one."""
    found: dict[str, Any] = {}
    is_part = row.get("group", "all") != "all"
    for key, value in row.items():
        if key in _NOT_OURS or value is None or not key.endswith(tuple(_METRICS)):
            continue
        if isinstance(value, Mapping) and "median" not in value:
            found |= {f"{key}, {num} at once": each for num, each in value.items()}
        elif key == "accuracy":
            found[key] = {"median": value, "min": row["low"], "max": row["high"], "num": row["num"]}
        elif key == "same_outputs":
            same, _, every = value.partition("/")
            found[key] = int(same) / int(every)
        elif not (is_part and key in _UNBOUNDED):  # of a few rows, they scatter
            found[key] = value
    return found


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
        for key in [key for key in keys if old.get(key) != new.get(key)]:
            yield f"Another {key.replace('_', ' ')}: {old.get(key)}, then {new.get(key)}."
    for report, when in ((before, "Before"), (after, "After")):
        if found := strains(report):
            yield f"{when}: {', '.join(found)}."


def _unmatched(old: Mapping[Any, Record], new: Mapping[Any, Record]) -> Iterator[str]:
    yield from (f"Only before: {_name(old[key])}." for key in old if key not in new)
    yield from (f"Only after: {_name(new[key])}." for key in new if key not in old)
    for key in [key for key in old if key in new]:
        for one, other, when in ((old[key], new[key], "before"), (new[key], old[key], "after")):
            if (why := _lack(one)) and not _lack(other):
                what = "Skipped" if one.get("skipped") else "Failed"
                yield f"{what} {when}: {_name(other)}, {why}."


def _lack(row: Record | None) -> str | None:
    """Why a row has no figures, None if it has them."""
    return "missing" if row is None else row.get("skipped") or row.get("error")


def _name(row: Record) -> str:
    return subject(row) + (f", {row['group']}" if row.get("group", "all") != "all" else "")


def _metric(name: str) -> tuple[str, Callable[[float], str | None]]:
    """What a figure is called, and how it is shown."""
    key, comma, rest = name.partition(",")
    ending, (word, show) = next(pair for pair in _METRICS.items() if key.endswith(pair[0]))
    return (key.removesuffix(ending) + word).replace("_", " ") + comma + rest, show
