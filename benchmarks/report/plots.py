"""Plots of a report, as SVG: one statement each, its numbers written beside its marks.

The same report gives the same bytes: ids come from a fixed salt, and no date is written.
matplotlib draws them, which the extra `bench` brings; it is imported when a plot is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paw_mlx.benchmarks.report import headings
from paw_mlx.benchmarks.report.figures import FIGURES, GREY, INK, SOFT, Figure
from paw_mlx.benchmarks.report.report import write
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
_AROUND = 1.15  # inches above and below the axes
_UNDATED = {"Date": None, "Creator": None}


def draw(report: Mapping[str, Any], stem: Path) -> list[Path]:
    """Draw what the report has plots for, as `<stem>-<plot>.svg`; return the paths.

    NotFound without matplotlib.
    """
    drawn = {stem.with_name(f"{stem.name}-{name}.svg"): svg for name, svg in svgs(report).items()}
    for path, svg in drawn.items():
        write(path, svg)
    return list(drawn)


def svgs(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the report's plots by name."""
    try:
        import matplotlib
    except ImportError as error:
        raise NotFound(
            "matplotlib is not installed", hint="`pip install 'paw-mlx[bench]'` brings it."
        ) from error
    if report["kind"] not in FIGURES:
        return {}
    rows = [row for row in report["rows"] if not row.get("skipped") and not row.get("error")]
    with matplotlib.rc_context(_STYLE):
        return {made.name: _svg(report, made) for made in FIGURES[report["kind"]](rows)}


def _svg(report: Mapping[str, Any], made: Figure) -> str:
    """A figure on its own canvas, with a title, a line under it and where it was measured."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    width, height = made.size
    total = height + _AROUND
    figure = Canvas(figsize=(width, total))
    FigureCanvasSVG(figure)
    made.fill(figure.add_axes((0.0, 0.45 / total, 1.0, height / total)))
    figure.text(0, 1 - 0.12 / total, made.title, size=13, weight="bold", va="top")
    figure.text(0, 1 - 0.38 / total, made.under, size=10, color=SOFT, va="top")
    where = headings.chip(report) + (", synthetic weights" if report["synthetic"] else "")
    figure.text(0, 0, f"{where}, {report['date'][:10]}", size=8.5, color=SOFT, va="bottom")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=_UNDATED, bbox_inches="tight", pad_inches=0.2)
    return text.getvalue().replace(f"'{_MEASURED_WITH}'", _SHOWN_IN)
