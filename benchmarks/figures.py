"""What is drawn of a report of each kind, on axes that `plots.py` makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from paw_mlx.benchmarks import sections
from paw_mlx.benchmarks.headings import subject
from paw_mlx.benchmarks.sections import mid
from paw_mlx.benchmarks.tables import Row, number

BLUE, GREEN, ORANGE, GREY = "#2563a8", "#2f7f5f", "#c2611f", "#8a93a0"
INK, SOFT, FAINT = "#1f2733", "#5d6773", "#dfe3e8"  # text, text of second rank, lines behind
_COLORS = {"base": GREY, "program": BLUE, "baseline": ORANGE}
_MOST_GROUPS = 12

Axes = Any
Draw = Callable[[Axes], None]
# A plot's name, its title and the line beneath, its size in inches, what fills it.
Made = tuple[str, str, str, tuple[float, float], Draw]


def _speed(rows: Sequence[Row]) -> Iterator[Made]:
    if not rows:
        return
    size = (6.2, 0.5 * len(rows) + 0.1)
    most, line = "", ""
    if any(row.get("ceiling_tok_s") for row in rows):
        most = ", and the most that memory allows"
        line = "; a line marks the ceiling: bandwidth over the bytes a token reads"
    yield (
        "tokens",
        f"Tokens per second{most}",
        f"decoding, one call{line}",
        size,
        lambda axes: _tokens(axes, rows),
    )
    yield (
        "memory",
        _memory_title(rows),
        "peak bytes that MLX held",
        size,
        lambda axes: _memory(axes, rows),
    )
    if nums := sections.nums_at_once(rows):
        yield (
            "calls",
            "Calls per second, by how many run at once",
            "real prompts with a kept prefix, short outputs; both scales double with every step",
            (5.2, 3.2),
            lambda axes: _calls(axes, rows, nums),
        )
    if any(row.get("ttft_warm_s") for row in rows):
        yield (
            "latency",
            "Milliseconds to the first token",
            "filled: the program's prefix is kept; hollow: it is evaluated; whiskers: least, most",
            size,
            lambda axes: _latency(axes, rows),
        )


def _tokens(axes: Axes, rows: Sequence[Row]) -> None:
    _bars(axes, rows, [(mid(row["decode_tok_s"]) or 0) for row in rows])
    edge = max(mid(row["decode_tok_s"]) or 0 for row in rows)
    for y, row in enumerate(rows):
        found, ceiling = row["decode_tok_s"], row.get("ceiling_tok_s")
        _whisker(axes, y, found["min"], found["max"])
        low, high = ceiling if isinstance(ceiling, list | tuple) else (ceiling, ceiling)
        text = f"  {number(found['median'])}"
        if high:
            edge = max(edge, high)
            axes.plot([low, low], [y - 0.34, y + 0.34], color=INK, lw=1.4)
            axes.plot([low, high], [y, y], color=INK, lw=1, ls=":")
            axes.plot([high, high], [y - 0.34, y + 0.34], color=INK, lw=1.4)
            most = number(high) if low == high else f"{number(low)}–{number(high)}"
            text += f" of {most}"
        axes.text(max(found["max"], high or 0), y, text, va="center")
    axes.set_xlim(0, 1.18 * edge)
    _rowed(axes, rows)


def _memory_title(rows: Sequence[Row]) -> str:
    """With the ratio to the baseline, where both are in the same number of bits."""
    known = [row for row in rows if row.get("peak_bytes")]
    for ours in (row for row in known if row["subject"] == "program"):
        for theirs in (row for row in known if row["subject"] == "baseline"):
            ratio = theirs["peak_bytes"] / ours["peak_bytes"]
            if sections.same_bits(ours, theirs) and ratio > 1:
                share = f"the program takes 1/{number(ratio)} of the baseline's"
                return f"Memory at its peak: in {ours['bits']} bits, {share}"
    return "Memory at its peak"


def _memory(axes: Axes, rows: Sequence[Row]) -> None:
    sizes = [row.get("peak_bytes") or 0 for row in rows]
    _bars(axes, rows, sizes)
    for y, size in enumerate(sizes):
        axes.text(size, y, f"  {_bytes(size)}", va="center")
    axes.set_xlim(0, 1.18 * max(*sizes, 1))
    _rowed(axes, rows)


def _latency(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_xscale("log")
    for y, row in enumerate(rows):
        color = _COLORS.get(row["subject"], INK)
        for key, filled in (("ttft_cold_s", False), ("ttft_warm_s", True)):
            found = row.get(key)
            if not found:
                continue
            low, at, high = (1e3 * found[name] for name in ("min", "median", "max"))
            axes.plot([low, high], [y, y], color=color, lw=1.5)
            face = color if filled else "white"
            axes.plot([at], [y], "o", color=color, mfc=face, ms=8, mew=1.6)
            axes.annotate(number(at), (at, y), (0, 8), textcoords="offset points", ha="center")
    axes.margins(x=0.12)
    _rowed(axes, rows)


def _calls(axes: Axes, rows: Sequence[Row], nums: Sequence[str]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    ends: list[tuple[float, int, str, str]] = []
    for row in rows:
        points = [(int(n), v) for n in nums if (v := sections.calls_s(row, n))]
        if not points:
            continue
        xs, ys = zip(*points, strict=True)
        dense = row.get("bits") == 16
        color = _COLORS.get(row["subject"], INK)
        axes.plot(xs, ys, "o--" if dense else "o-", color=color, lw=2, ms=5)
        ends.append((ys[-1], xs[-1], f"{number(ys[-1])}  {subject(row)}", color))
    axes.set_xticks([int(n) for n in nums], [f"{n} at once" for n in nums])
    axes.minorticks_off()
    axes.margins(y=0.12)
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    axes.grid(axis="y", color=FAINT, lw=0.8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    ends.sort()
    for y, (_, x, text, color) in zip(_apart(axes, ends), ends, strict=True):
        axes.annotate(
            text,
            (x, y),
            (6, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=color,
            va="center",
        )


def _apart(axes: Axes, ends: Sequence[tuple[float, Any, Any, Any]]) -> list[float]:
    """Where labels of curves' ends, in order, stand as shares of the height: none on another."""
    axes.autoscale_view()  # the limits of what was plotted, which drawing would find only later
    room, to_share = 0.07, axes.transData + axes.transAxes.inverted()
    places: list[float] = []
    for value, *_ in ends:
        at = float(to_share.transform((1, value))[1])
        places.append(max(at, places[-1] + room) if places else at)
    return places


def _accuracy(rows: Sequence[Row]) -> Iterator[Made]:
    overall = [row for row in rows if row["group"] == "all"]
    if overall:
        yield (
            "methods",
            "Accuracy by method",
            "per cent of outputs that are exactly right; whiskers: 95 % interval",
            (5.6, 0.42 * len(overall) + 0.1),
            lambda axes: _shares(axes, overall),
        )
    for sort, found in sections.by_sort(rows).items():
        groups = list(dict.fromkeys(row["group"] for row in found))
        if sort == "function" or not 1 < len(groups) <= _MOST_GROUPS:
            continue
        methods = len({sections.method(row) for row in found})
        yield (
            sort,
            f"Accuracy by {sections.GROUPS.get(sort, sort)}",
            "per cent of outputs that are exactly right; whiskers: 95 % interval",
            (5.6, len(groups) * (0.26 * methods + 0.45)),
            lambda axes, found=found, groups=groups: _grouped(axes, found, groups),  # type: ignore[misc]
        )


def _shares(axes: Axes, rows: Sequence[Row]) -> None:
    for y, row in enumerate(rows):
        _share(axes, y, row, 6)
    _hundred(axes)
    axes.set_yticks(range(len(rows)), [sections.method(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _grouped(axes: Axes, rows: Sequence[Row], groups: Sequence[str]) -> None:
    """Methods under the name of each group."""
    y, ticks, names = 0.0, [], []
    for group in groups:
        found = [row for row in rows if row["group"] == group]
        label = _short(f"{group.partition(': ')[2]} ({found[0]['num']:,})")
        axes.text(0, y, label, weight="bold", va="center", ha="left")
        for row in found:
            y += 1
            _share(axes, y, row, 5)
            ticks.append(y)
            names.append(sections.method(row))
        y += 1.6
    _hundred(axes)
    axes.set_yticks(ticks, names)
    axes.set_ylim(y - 1, -0.8)


def _share(axes: Axes, y: float, row: Row, size: int) -> None:
    color = BLUE if row["method"] == "program" else INK
    color = ORANGE if row["method"] == "baseline" else color
    axes.plot([100 * row["low"], 100 * row["high"]], [y, y], color=color, lw=1.6, alpha=0.6)
    axes.plot([100 * row["accuracy"]], [y], "o", color=color, ms=size)
    axes.text(100 * row["high"] + 1.5, y, f"{100 * row['accuracy']:.1f}", va="center", color=color)


def _hundred(axes: Axes) -> None:
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="x", color=FAINT, lw=0.8)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _compile(rows: Sequence[Row]) -> Iterator[Made]:
    found = dict.fromkeys(key for row in rows for key in row if key.endswith("_s"))
    keys = [key for key in found if key != "total_s"]
    if keys:
        yield (
            "seconds",
            "Seconds that compiling a spec takes",
            "by phase, in the order they run",
            (5.6, 0.45 * len(rows) + 0.3),
            lambda axes: _phases(axes, rows, keys),
        )


def _phases(axes: Axes, rows: Sequence[Row], keys: Sequence[str]) -> None:
    for y, row in enumerate(rows):
        left = 0.0
        for key, color in zip(keys, _cycle(len(keys)), strict=True):
            width = mid(row.get(key)) or 0.0
            axes.barh(y, width, 0.6, left, color=color)
            if y == 0:
                axes.annotate(
                    key.removesuffix("_s").replace("_", " "),
                    (left, -0.36),
                    (0, 3 + 12 * (keys.index(key) % 2)),
                    textcoords="offset points",
                    color=color,
                )
            left += width
        axes.text(left, y, f"  {number(mid(row.get('total_s')) or left)} s", va="center")
    axes.margins(x=0.14)
    axes.set_yticks(range(len(rows)), [_short(row["spec"]) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -1.1)
    _bare(axes)


def _versus(rows: Sequence[Row]) -> Iterator[Made]:
    if rows:
        yield (
            "engines",
            "The same base and adapter, tokens per second",
            "decoding, one call, engines in turn; whiskers: least and most",
            (5.6, 0.5 * len(rows) + 0.1),
            lambda axes: _engines(axes, rows),
        )


def _engines(axes: Axes, rows: Sequence[Row]) -> None:
    for y, row in enumerate(rows):
        found = row["decode_tok_s"]
        axes.barh(y, found["median"], 0.6, color=BLUE if row["engine"] == "paw-mlx" else GREY)
        _whisker(axes, y, found["min"], found["max"])
        axes.text(found["max"], y, f"  {number(found['median'])}", va="center")
    axes.set_yticks(range(len(rows)), [row["engine"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.12 * max(row["decode_tok_s"]["max"] for row in rows))
    _bare(axes)


FIGURES: dict[str, Callable[[Sequence[Row]], Iterator[Made]]] = {
    "speed": _speed,
    "accuracy": _accuracy,
    "compile": _compile,
    "versus": _versus,
}


def _bars(axes: Axes, rows: Sequence[Row], values: Sequence[float]) -> None:
    colors = [_COLORS.get(row["subject"], INK) for row in rows]
    axes.barh(range(len(rows)), values, 0.6, color=colors)


def _whisker(axes: Axes, y: float, low: float, high: float) -> None:
    axes.plot([low, high], [y, y], color=INK, lw=1.2)


def _rowed(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [subject(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    _bare(axes)


def _bare(axes: Axes) -> None:
    """Numbers stand beside the marks: no scale is needed."""
    axes.set_xticks([])
    axes.minorticks_off()
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)


def _bytes(size: float) -> str:
    return f"{number(size / 1e9)} GB" if size >= 1e9 else f"{number(size / 1e6)} MB"


def _short(text: str) -> str:
    """A label's text: cut, and no $ that starts mathematics."""
    text = text.replace("$", r"\$")
    return text if len(text) <= 48 else text[:47] + "…"


def _cycle(num: int) -> list[str]:
    colors = [BLUE, ORANGE, GREEN, GREY]
    return [colors[i % len(colors)] for i in range(num)]
