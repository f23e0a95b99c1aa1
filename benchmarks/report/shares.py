"""Tables of shares that are right: those of `bench accuracy` and of `bench compile-quality`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from paw_mlx.benchmarks.report.tables import Column, Record, Table, figures, percent, words

GROUPS = {"kind": "kind of output"}  # what a sort of groups is called, if not by its name
_MOST = 24  # groups of one sort; the JSON has them all
SETS = {  # of functions that a compiler is judged by
    "unseen": "Unseen functions of trained kinds",
    "held-out": "Functions of held-out kinds",
    "test": "Test functions",
}
_QUALITY = (
    "Intervals draw whole functions anew, for cases of one are right or wrong together.",
    "Balanced: the mean recall of both labels, where a function has two whose names say nothing "
    "(A, B; hot, cold; invented words); to guess is 50 %.",
    "Gain: in points over the method named, on the same cases.",
)
_TRAINED = "tuned-K and trained-K are judged on the cases that they did not learn from."

Rows = Sequence[Record]


def by_sort(rows: Rows) -> dict[str, dict[str, list[Record]]]:
    """Return rows by the sort of group (kind, length, category, function), then by the group."""
    found: dict[str, dict[str, list[Record]]] = {}
    for row in rows:
        sort, colon, group = row["group"].partition(": ")
        if colon:
            found.setdefault(sort, {}).setdefault(group, []).append(row)
    return found


def method(row: Record) -> str:
    """Name a method and its noise: `program`, or `program, typos`."""
    return row["method"] + (f", {row['noise']}" if row.get("noise") else "")


def accuracy(rows: Rows) -> Iterator[Table]:
    """Return the tables of `bench accuracy`."""
    overall = [row for row in rows if row["group"] == "all"]
    columns = [
        words("method", "method"),
        words("noise", "noise"),
        Column("rows", "", lambda row: f"{row['num']:,}"),
        Column("right", "", lambda row: f"{row['correct']:,}"),
        Column("failed", "", lambda row: row.get("failed") and f"{row['failed']:,}"),
        Column("accuracy", "%", lambda row: percent(row["accuracy"])),
        Column("95 % interval", "%", _interval),
        *(
            Column(head, "%", lambda row, head=head: percent(row.get(head.lower())))
            for head in ("precision", "recall", "F1")
        ),
        figures("to make it", "s", "seconds"),
    ]
    notes = [
        f"{method(row)} is {row['same_as']}: both learn from all rows there are."
        for row in overall
        if row.get("same_as")
    ]
    yield Table("All rows", columns, overall, notes)
    for sort, groups in by_sort(rows).items():
        yield _matrix(f"By {GROUPS.get(sort, sort)}", sort, groups, main=sort == "kind")


def quality(rows: Rows) -> Iterator[Table]:
    """Return the tables of `bench compile-quality`: of each set all functions, families, kinds."""
    columns = [
        words("method", "method"),
        Column("functions", "", lambda row: f"{row['functions']:,}"),
        Column("cases", "", lambda row: f"{row['num']:,}"),
        Column("failed", "", lambda row: row.get("failed") and f"{row['failed']:,}"),
        Column("accuracy", "%", lambda row: percent(row["accuracy"])),
        Column("95 % interval", "%", _interval),
        Column("balanced", "%", lambda row: percent(row.get("balanced"))),
        Column("gain", "points", _gain),
        words("over", "gain_over"),
        figures("to make it", "s", "seconds"),
    ]
    trained = any(row["method"].startswith(("tuned-", "trained-")) for row in rows)
    notes = [*_QUALITY, *([_TRAINED] if trained else [])]
    for name, found in by_set(rows).items():
        title = SETS.get(name, name)
        overall = [row for row in found if row["group"] == "all"]
        yield Table(title, columns, overall, notes)
        for sort, groups in by_sort(found).items():
            yield _matrix(f"{title}, by {sort}", sort, groups, main=sort == "family")
        notes = []
    if not rows:
        yield Table("Nothing was measured", columns, rows)


def by_set(rows: Rows) -> dict[str, list[Record]]:
    """Return rows by the set of functions that they are of."""
    found: dict[str, list[Record]] = {}
    for row in rows:
        found.setdefault(row["set"], []).append(row)
    return found


def _gain(row: Record) -> str | None:
    """A gain, with its interval if it has one: `+12.3 (5.1 to 19.0)`."""
    if row.get("gain") is None:
        return None
    gain, ends = f"{100 * row['gain']:+.1f}", [row.get("gain_low"), row.get("gain_high")]
    return gain if None in ends else f"{gain} ({' to '.join(str(percent(end)) for end in ends)})"


def _matrix(title: str, sort: str, groups: Mapping[str, Rows], *, main: bool) -> Table:
    """Groups down, methods across; in each cell the accuracy and its interval."""
    methods = dict.fromkeys(method(row) for rows in groups.values() for row in rows)
    lines = [
        {"group": group, "num": rows[0]["num"]}
        | {method(row): f"{percent(row['accuracy'], 0)} ({_interval(row, 0)})" for row in rows}
        for group, rows in groups.items()
    ]
    columns = [
        words(sort, "group"),
        Column("rows", "", lambda row: f"{row['num']:,}"),
        *(Column(name, "%", lambda row, name=name: row.get(name)) for name in methods),
    ]
    notes = [f"{len(lines) - _MOST} more in the JSON."] if len(lines) > _MOST else []
    return Table(title, columns, lines[:_MOST], notes, main=main)


def _interval(row: Record, digits: int = 1) -> str:
    return f"{percent(row['low'], digits)}–{percent(row['high'], digits)}"
