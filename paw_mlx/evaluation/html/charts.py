"""The charts of a report's page, as SVG that stands in it; lines and colors are the page's."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..decisions import Bin, Point

_MOST_POINTS = 200  # of a curve: more are not to be seen, and make the page large
_LEFT, _TOP, _SIZE, _HEIGHT = 64.0, 12.0, 370.0, 230.0
_SCALES = 0.04, 0.08, 0.12, 0.2, 0.4, 0.6, 0.8, 1.0  # their quarters are whole percents


def draw_interval(share: float, low: float, high: float) -> str:
    """Draw a share and its interval on a line from 0 to 100 %."""
    x, a, b = (20 + 400 * value for value in (share, low, high))
    ticks = "".join(
        f'<text x="{20 + 4 * tick}" y="46" text-anchor="middle">{tick} %</text>'
        for tick in (0, 25, 50, 75, 100)
    )
    return _svg(
        f"accuracy {share:.1%}, with 95 % confidence from {low:.1%} to {high:.1%}",
        440,
        52,
        f'<path class="axis" d="M20 18H420"/><path class="span" d="M{a:.1f} 18H{b:.1f}"/>'
        f'<circle class="dot" cx="{x:.1f}" cy="18" r="6"/>{ticks}',
    )


def draw_reliability(bins: Sequence[Bin]) -> str:
    """Draw how often calls are right against how sure they were; a dot's area is their number."""
    most = max(one.num for one in bins)
    dots = "".join(
        f'<circle class="dot" cx="{_x(one.said):.1f}" cy="{_y(one.right, 1):.1f}" '
        f'r="{3 + 8 * (one.num / most) ** 0.5:.1f}" fill-opacity=".75"><title>{_told(one)}</title>'
        "</circle>"
        for one in bins
    )
    line = " ".join(f"{_x(one.said):.1f},{_y(one.right, 1):.1f}" for one in bins)
    ideal = f'<path class="ideal" d="M{_x(0)} {_y(0, 1)}L{_x(1)} {_y(1, 1)}"/>'
    drawn = f'{ideal}<polyline class="line" points="{line}"/>{dots}'
    told = "reliability: " + "; ".join(_told(one) for one in bins)
    return _plot(told, "probability", "share that is right", 1, drawn)


def draw_risk(curve: Sequence[Point], coverage: float, error: float | None) -> str:
    """Draw the share of decided calls that is wrong against the share decided.

    A dot stands where the program is, if it decides anything.
    """
    most = max(point.error for point in curve)
    top = next(scale for scale in _SCALES if scale >= most)
    step = -(-len(curve) // _MOST_POINTS)
    kept = [*curve[:-1:step], curve[-1]]
    path, before = "", kept[0]
    for point in kept:
        start = "L" if path else "M"
        path += f"{start}{_x(before.coverage):.1f} {_y(point.error, top):.1f}"
        path += f"H{_x(point.coverage):.1f}"
        before = point
    drawn = f'<path class="line" d="{path}"/>'
    if error is not None:
        at = f'cx="{_x(coverage):.1f}" cy="{_y(error, top):.1f}"'
        told = f"now: {coverage:.1%} decided, {error:.1%} of them wrong"
        drawn += f'<circle class="dot" {at} r="6"><title>{told}</title></circle>'
    told = f"risk and coverage: {curve[-1].error:.1%} of calls are wrong where all are decided"
    return _plot(told, "share decided", "share of these that is wrong", top, drawn)


def _told(one: Bin) -> str:
    return f"{one.num} said {one.said:.1%}, {one.right:.1%} right"


def _x(share: float) -> float:
    return _LEFT + _SIZE * share


def _y(value: float, top: float) -> float:
    return _TOP + _HEIGHT * (1 - value / top)


def _plot(told: str, x_label: str, y_label: str, top: float, drawn: str) -> str:
    """Return axes, x from 0 to 100 % and y from 0 to `top`, with what is drawn on them."""
    marks = ""
    for part in (0, 0.25, 0.5, 0.75, 1):
        y = _y(part, 1)
        marks += f'<path class="axis" d="M{_LEFT} {y}H{_LEFT + _SIZE}"/>'
        marks += (
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{100 * part * top:g} %</text>'
        )
        marks += (
            f'<text x="{_x(part)}" y="{_y(0, 1) + 18}" text-anchor="middle">{100 * part:g} %</text>'
        )
    bottom = _TOP + _HEIGHT + 38
    names = f'<text x="{_x(0.5)}" y="{bottom}" text-anchor="middle">{x_label}</text>'
    names += f'<text transform="rotate(-90)" x="{-_y(0.5, 1)}" y="12" text-anchor="middle">'
    return _svg(told, 460, round(bottom + 8), f"{marks}{names}{y_label}</text>{drawn}")


def _svg(told: str, width: int, height: int, drawn: str) -> str:
    name = escape(told)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}">{drawn}</svg>'
