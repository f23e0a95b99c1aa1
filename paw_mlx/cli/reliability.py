"""How true probabilities are, drawn: in text on the terminal, or as a plot (extra `bench`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotFound, OptionError
from ..files import replacing
from .common import table

if TYPE_CHECKING:
    from ..calibration import Calibration
    from ..evaluation import Bin, Point

SUFFIXES = (".svg", ".png")
_WIDTH = 40  # columns of a bar
_BEFORE, _AFTER, _INK = "#8a93a0", "#2563a8", "#1f2733"


def draw_bins(bins: Sequence[Bin]) -> str:
    """Return a diagram: a bar as long as the share that is right, a mark where probabilities are.

    Where they are true, the bar ends at the mark.
    """
    head = ["probability", "cases", "mean", "right"]
    rows = [
        [f"{b.low:.2f} - {b.high:.2f}", str(b.num), f"{b.said:.1%}", f"{b.right:.1%}"] for b in bins
    ]
    lines = table([head, *rows]).splitlines()
    return "\n".join([lines[0], *(f"{a}  {_bar(b)}" for a, b in zip(lines[1:], bins, strict=True))])


def check_plot(path: Path) -> None:
    """Raise OptionError or NotFound, before the work, if a plot cannot be drawn to a file."""
    if path.suffix.lower() not in SUFFIXES:
        raise OptionError(f"a plot is written as {' or '.join(SUFFIXES)}, and not as {path.name}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise NotFound(
            "matplotlib is not installed", hint="`pip install 'paw-mlx[bench]'` brings it."
        ) from error


def plot(found: Calibration, path: Path) -> None:
    """Plot what was found: probabilities before and after, and the risk–coverage curve.

    The same numbers give the same bytes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "paw-mlx", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8.4, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        if found.fit.bins:
            _plot_bins(left, *found.fit.bins)
        assert found.report.decisions
        _plot_curve(right, found, found.report.decisions.curve())
        with replacing(path) as temporary:
            dated: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {}
            figure.savefig(temporary, format=path.suffix[1:].lower(), metadata=dated)


def _bar(one: Bin) -> str:
    bar = "#" * round(one.right * _WIDTH)
    mark = min(round(one.said * _WIDTH), _WIDTH - 1)
    bar = bar.ljust(mark + 1)
    return f"{bar[:mark]}|{bar[mark + 1 :]}"


def _plot_bins(axes: Any, before: Sequence[Bin], after: Sequence[Bin]) -> None:
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":")
    for name, color, bins in (("before", _BEFORE, before), ("after", _AFTER, after)):
        sizes = [20 + 200 * b.num / sum(b.num for b in bins) for b in bins]
        said, right = [b.said for b in bins], [b.right for b in bins]
        axes.plot(said, right, color=color, linewidth=1)
        axes.scatter(said, right, s=sizes, color=color, label=name, alpha=0.8)
    axes.set(xlabel="probability", ylabel="share that is right", title="Reliability")
    axes.legend(frameon=False)


def _plot_curve(axes: Any, found: Calibration, curve: Sequence[Point]) -> None:
    coverage, error = [p.coverage for p in curve], [p.error for p in curve]
    axes.plot(coverage, error, color=_AFTER, drawstyle="steps-pre")
    axes.axhline(found.threshold.max_error, color=_BEFORE, linestyle="--", linewidth=0.8)
    if found.threshold.value is not None:
        axes.axvline(found.threshold.coverage, color=_INK, linestyle=":", linewidth=0.8)
    axes.set(xlabel="share decided", ylabel="share of these that is wrong", title="Risk–coverage")
    axes.set_ylim(bottom=0)
