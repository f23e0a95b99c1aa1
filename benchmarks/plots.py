"""Plots of a report, as SVG: one statement each, its numbers written beside its marks.

The same report gives the same bytes: ids come from a fixed salt, and no date is written.
matplotlib draws them, which the extra `bench` brings; it is imported when a plot is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paw_mlx.benchmarks import headings
from paw_mlx.benchmarks.figures import FIGURES, GREY, INK, SOFT, Draw
from paw_mlx.benchmarks.report import write
from paw_mlx.errors import NotFound

_MEASURED_WITH = "DejaVu Sans"  # comes with matplotlib, so that a layout is everywhere the same
_SHOWN_IN = "'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
_STYLE: Any = {
    "font.family": _MEASURED_WITH,
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "paw-mlx",
}
_UNDATED = {"Date": None, "Creator": None}


def draw(report: Mapping[str, Any], stem: Path) -> list[Path]:
    """Draw what the report has plots for, as `<stem>-<plot>.svg`; return the paths.

    NotFound without matplotlib.
    """
    drawn = []
    for name, svg in svgs(report).items():
        path = stem.with_name(f"{stem.name}-{name}.svg")
        write(path, svg)
        drawn.append(path)
    return drawn


def svgs(report: Mapping[str, Any]) -> dict[str, str]:
    """The report's plots by name."""
    try:
        import matplotlib
    except ImportError as error:
        raise NotFound(
            "matplotlib is not installed", hint="`pip install 'paw-mlx[bench]'` brings it."
        ) from error
    plots = FIGURES.get(report["kind"], lambda _: iter(()))
    rows = [row for row in report["rows"] if not row.get("skipped") and not row.get("error")]
    with matplotlib.rc_context(_STYLE):
        return {name: _svg(report, *made) for name, *made in plots(rows)}


def _svg(
    report: Mapping[str, Any], title: str, under: str, size: tuple[float, float], fill: Draw
) -> str:
    """A figure on its own canvas, with a title, a line under it and where it was measured."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height = size
    figure = Figure(figsize=(width, height + 1.15))
    FigureCanvasSVG(figure)
    total = height + 1.15
    axes = figure.add_axes((0.0, 0.45 / total, 1.0, height / total))
    fill(axes)
    figure.text(0, 1 - 0.12 / total, title, size=13, weight="bold", va="top")
    figure.text(0, 1 - 0.38 / total, under, size=10, color=SOFT, va="top")
    where = headings.chip(report) + (", synthetic weights" if report["synthetic"] else "")
    figure.text(0, 0, f"{where}, {report['date'][:10]}", size=8.5, color=SOFT, va="bottom")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=_UNDATED, bbox_inches="tight", pad_inches=0.2)
    return text.getvalue().replace(f"'{_MEASURED_WITH}'", _SHOWN_IN)
