"""What is drawn of a report of each kind, on axes that `plots.py` makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

from paw_mlx.benchmarks.report import sections, shares
from paw_mlx.benchmarks.report.headings import subject
from paw_mlx.benchmarks.report.tables import Record, bytes_unit, mid, number

BLUE, GREEN, ORANGE, GREY = "#2563a8", "#2f7f5f", "#c2611f", "#8a93a0"
INK, SOFT, FAINT = "#1f2733", "#5d6773", "#dfe3e8"  # text, text of second rank, lines behind
_COLORS = {"base": GREY, "program": BLUE, "compiled": BLUE, "baseline": ORANGE}
_RIGHT = "per cent of outputs that are exactly right; whiskers: 95 % interval"
_MOST_GROUPS = 12

Axes = Any


class Figure(NamedTuple):
    """A plot's name, its title and the line beneath, its size in inches, what fills it."""

    name: str
    title: str
    under: str
    size: tuple[float, float]
    fill: Callable[[Axes], None]


class Bar(NamedTuple):
    """A bar with its number; least and most, and a ceiling or its range, where there are any."""

    name: str
    color: str
    value: float
    text: str
    ends: tuple[float, float] | None = None
    ceiling: Sequence[float] = ()


def _speed(rows: Sequence[Record]) -> Iterator[Figure]:
    if not rows:
        return
    size = (6.2, 0.5 * len(rows) + 0.1)
    most = line = ""
    if any(row.get("ceiling_tok_s") for row in rows):
        most = ", and the most that memory allows"
        line = "; a line marks the ceiling: bandwidth over the bytes a token reads"
    tokens = [_decoding(subject(row), _color(row), row) for row in rows]
    title, under = f"Tokens per second{most}", f"decoding, one call{line}"
    yield Figure("tokens", title, under, size, partial(draw_bars, bars=tokens))
    peaks = [peak(row) for row in rows]
    title, under = _memory_title(rows), "peak bytes that MLX held"
    yield Figure("memory", title, under, size, partial(draw_bars, bars=peaks))
    if nums := sections.nums_at_once(rows):
        title = "Calls per second, by how many run at once"
        under = "real prompts with a kept prefix, short outputs; both scales double with every step"
        yield Figure("calls", title, under, (5.2, 3.2), partial(draw_calls, rows=rows, nums=nums))
    if any(row.get("ttft_warm_s") for row in rows):
        title = "Milliseconds to the first token"
        under = (
            "filled: the program's prefix is kept; hollow: it is evaluated; whiskers: least, most"
        )
        yield Figure("latency", title, under, size, partial(_draw_latency, rows=rows))


def _accuracy(rows: Sequence[Record]) -> Iterator[Figure]:
    overall = [row for row in rows if row["group"] == "all"]
    if overall:
        size = (5.6, 0.42 * len(overall) + 0.1)
        fill = partial(_draw_shares, groups={"": overall})
        yield Figure("methods", "Accuracy by method", _RIGHT, size, fill)
    for sort, groups in shares.by_sort(rows).items():
        if sort != "function" and 1 < len(groups) <= _MOST_GROUPS:
            names = {shares.method(row) for found in groups.values() for row in found}
            size = (5.6, len(groups) * (0.26 * len(names) + 0.45))
            title = f"Accuracy by {shares.GROUPS.get(sort, sort)}"
            yield Figure(sort, title, _RIGHT, size, partial(_draw_shares, groups=groups))


def _quality(rows: Sequence[Record]) -> Iterator[Figure]:
    """Of each set the families, all functions first."""
    for name, found in shares.by_set(rows).items():
        overall = [row for row in found if row["group"] == "all"]
        groups = {"all": overall} | shares.by_sort(found).get("family", {})
        size = (5.6, sum(0.26 * len(part) + 0.45 for part in groups.values()))
        title = f"Accuracy by family: {shares.SETS.get(name, name).lower()}"
        fill = partial(_draw_shares, groups=groups)
        yield Figure(f"{name}-families", title, _RIGHT, size, fill)


def _compile(rows: Sequence[Record]) -> Iterator[Figure]:
    keys = dict.fromkeys(key for row in rows for key in row if key.endswith("_s"))
    keys.pop("total_s", None)
    if keys:
        title, under = "Seconds that compiling a spec takes", "by phase, in the order they run"
        size = (5.6, 0.45 * len(rows) + 0.3)
        yield Figure("seconds", title, under, size, partial(_draw_phases, rows=rows, keys=[*keys]))


def _versus(rows: Sequence[Record]) -> Iterator[Figure]:
    if rows:
        title = "The same base and adapter, tokens per second"
        under = "decoding, one call, engines in turn; whiskers: least and most"
        ours = {"paw-mlx": BLUE}
        bars = [_decoding(row["engine"], ours.get(row["engine"], GREY), row) for row in rows]
        size = (5.6, 0.5 * len(rows) + 0.1)
        yield Figure("engines", title, under, size, partial(draw_bars, bars=bars))


FIGURES: dict[str, Callable[[Sequence[Record]], Iterator[Figure]]] = {
    "speed": _speed,
    "accuracy": _accuracy,
    "compile": _compile,
    "quality": _quality,
    "versus": _versus,
}


def _color(row: Record) -> str:
    return _COLORS.get(row.get("subject") or row.get("method", ""), INK)


def _decoding(name: str, color: str, row: Record) -> Bar:
    """Tokens per second, their spread, and what memory allows."""
    found, ceiling = row["decode_tok_s"], row.get("ceiling_tok_s")
    text = str(number(found["median"])) + (f" of {number(ceiling)}" if ceiling else "")
    marks = ceiling if isinstance(ceiling, list | tuple) else [ceiling] if ceiling else []
    return Bar(name, color, found["median"], text, (found["min"], found["max"]), marks)


def peak(row: Record) -> Bar:
    """Show how much memory MLX held at most."""
    size = row.get("peak_bytes") or 0
    unit, scale = bytes_unit([size])
    return Bar(subject(row), _color(row), size, f"{number(size / scale)} {unit}")


def _memory_title(rows: Sequence[Record]) -> str:
    """With the ratio to the baseline, where both are in the same number of bits."""
    known = [row for row in rows if row.get("peak_bytes")]
    for ours in (row for row in known if row["subject"] == "program"):
        for theirs in (row for row in known if row["subject"] == "baseline"):
            ratio = theirs["peak_bytes"] / ours["peak_bytes"]
            if sections.same_bits(ours, theirs) and ratio > 1:
                share = f"the program takes 1/{number(ratio)} of the baseline's"
                return f"Memory at its peak: in {ours['bits']} bits, {share}"
    return "Memory at its peak"


def draw_bars(axes: Axes, bars: Sequence[Bar]) -> None:
    """Draw bars with their numbers at their ends, whiskers, and ceilings as lines."""
    colors, edge = [bar.color for bar in bars], 1.0
    axes.barh(range(len(bars)), [bar.value for bar in bars], 0.6, color=colors)
    for y, bar in enumerate(bars):
        if bar.ends:
            axes.plot(bar.ends, [y, y], color=INK, lw=1.2)
        for mark in bar.ceiling:
            axes.plot([mark, mark], [y - 0.34, y + 0.34], color=INK, lw=1.4)
        if bar.ceiling:
            axes.plot(bar.ceiling, [y] * len(bar.ceiling), color=INK, lw=1, ls=":")
        end = max([bar.value, *(bar.ends or ()), *bar.ceiling])
        axes.text(end, y, f"  {bar.text}", va="center")
        edge = max(edge, end)
    axes.set_xlim(0, 1.18 * edge)
    _name_rows(axes, [bar.name for bar in bars])


def draw_calls(axes: Axes, rows: Sequence[Record], nums: Sequence[str]) -> None:
    """Draw a curve for each row, dashed for 16 bits, with its name and number at its end."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    ends: list[tuple[float, int, str, str]] = []
    for row in rows:
        points = [(int(n), v) for n in nums if (v := sections.calls_s(row, n))]
        if points:
            xs, ys = zip(*points, strict=True)
            line = "o--" if row.get("bits") == 16 else "o-"
            axes.plot(xs, ys, line, color=_color(row), lw=2, ms=5)
            ends.append((ys[-1], xs[-1], f"{number(ys[-1])}  {subject(row)}", _color(row)))
    axes.set_xticks([int(n) for n in nums], [f"{n} at once" for n in nums])
    axes.minorticks_off()
    axes.margins(y=0.12)
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    axes.grid(axis="y", color=FAINT, lw=0.8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    axes.autoscale_view()  # the limits of what was plotted, which drawing would find only later
    to_share, lowest = axes.transData + axes.transAxes.inverted(), -1.0
    for value, x, text, color in sorted(ends):  # no label stands on another
        lowest = y = max(float(to_share.transform((1, value))[1]), lowest)
        lowest += 0.07
        beside: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "va": "center"}
        axes.annotate(text, (x, y), (6, 0), textcoords="offset points", color=color, **beside)


def _draw_latency(axes: Axes, rows: Sequence[Record]) -> None:
    axes.set_xscale("log")
    for y, row in enumerate(rows):
        color = _color(row)
        for key, face in (("ttft_cold_s", "white"), ("ttft_warm_s", color)):
            if found := row.get(key):
                low, at, high = (1e3 * found[name] for name in ("min", "median", "max"))
                axes.plot([low, high], [y, y], color=color, lw=1.5)
                axes.plot([at], [y], "o", color=color, mfc=face, ms=8, mew=1.6)
                axes.annotate(number(at), (at, y), (0, 8), textcoords="offset points", ha="center")
    axes.margins(x=0.12)
    _name_rows(axes, [subject(row) for row in rows])


def _draw_shares(axes: Axes, groups: Mapping[str, Sequence[Record]]) -> None:
    """Methods under the name of each group; a single group without a name has none."""
    y, ticks = 0.0, {}
    for name, rows in groups.items():
        if name:
            label = _short(f"{name} ({rows[0]['num']:,})")
            axes.text(0, y, label, weight="bold", va="center", ha="left")
            y += 1
        for row in rows:
            low, at, high = (100 * row[key] for key in ("low", "accuracy", "high"))
            color = _color(row)
            axes.plot([low, high], [y, y], color=color, lw=1.6, alpha=0.6)
            axes.plot([at], [y], "o", color=color, ms=5 if name else 6)
            axes.text(high + 1.5, y, f"{at:.1f}", va="center", color=color)
            ticks[y] = shares.method(row)
            y += 1
        y += 0.6
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="x", color=FAINT, lw=0.8)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_yticks([*ticks], [*ticks.values()])
    axes.set_ylim(y - 1, -0.6 if "" in groups else -0.8)


def _draw_phases(axes: Axes, rows: Sequence[Record], keys: Sequence[str]) -> None:
    for y, row in enumerate(rows):
        left = 0.0
        for i, (key, color) in enumerate(zip(keys, cycle([BLUE, ORANGE, GREEN, GREY]))):
            width = mid(row.get(key)) or 0.0
            axes.barh(y, width, 0.6, left, color=color)
            if y == 0:
                name, above = key.removesuffix("_s").replace("_", " "), (0, 3 + 12 * (i % 2))
                at = (left, -0.36)
                axes.annotate(name, at, above, textcoords="offset points", color=color)
            left += width
        axes.text(left, y, f"  {number(mid(row.get('total_s')) or left)} s", va="center")
    axes.margins(x=0.14)
    _name_rows(axes, [_short(row["spec"]) for row in rows], top=-1.1)


def _name_rows(axes: Axes, names: Sequence[str], top: float = -0.6) -> None:
    """Name rows on the left; numbers stand beside the marks, so that no scale is needed."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, top)
    axes.set_xticks([])
    axes.minorticks_off()
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)


def _short(text: str) -> str:
    """A label's text: cut, and no $ that starts mathematics."""
    text = text.replace("$", r"\$")
    return text if len(text) <= 48 else text[:47] + "…"
