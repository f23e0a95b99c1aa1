"""The receipt: what a conversion did to every site, and the proof that it is the same adapter.

Nothing is taken from how a writer works. Each factor is held to what the target's dtype may do
to it (`rounding`), element by element, where a sum over the rank would blur it; the bound on
the delta follows from that:

    |A' - A| <= eA,  |s'B' - sB| <= eB    =>    |delta' - delta| <= eB (|A| + eA) + |sB| eA

Ranks may be padded with zeros and scales folded into B. Factors that are others altogether pass
only if float32 cannot tell their deltas apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from paw_mlx.adapter import Adapter, Lora, Site
from paw_mlx.convert.factors import Factors, U, difference, is_zero, padded
from paw_mlx.convert.rounding import rounding_error

_FOLDED = 8 * U  # a scale folded in float32 rounds the factor, the product, alpha, both scales
_SIBLINGS = 1.125  # two roundings of one original: neither is it, and their rules shift a little
_NUMBERS = ("max_abs", "max_rel", "bound")


@dataclass(frozen=True)
class Stored:
    """How one side keeps a site."""

    rank: int
    scale: float
    A: str
    B: str
    nbytes: int

    @classmethod
    def of(cls, lora: Lora | None) -> Stored | None:
        if lora is None:
            return None
        nbytes = lora.A.nbytes + lora.B.nbytes
        return cls(lora.rank, lora.scale, lora.A.dtype, lora.B.dtype, nbytes)

    @property
    def dtype(self) -> str:
        return self.A if self.A == self.B else f"{self.A}/{self.B}"


@dataclass(frozen=True)
class SiteReceipt:
    """One site. `max_abs` is the largest change of its delta, `max_rel` that in parts of the
    delta's largest element, `bound` what the rules allow; `before` or `after` is None on a
    side without the site."""

    site: Site
    before: Stored | None
    after: Stored | None
    max_abs: float = 0.0
    max_rel: float = 0.0
    bound: float = 0.0
    problem: str | None = None

    @property
    def exact(self) -> bool:
        return self.max_abs == 0 and self.problem is None

    @property
    def filled(self) -> bool:
        """Whether it was added to fill a gap: it adds nothing to the base."""
        return self.before is None and self.exact

    def record(self) -> dict[str, Any]:
        """The site as JSON has it: null where a number has no end."""
        record = asdict(self) | {"exact": self.exact, "filled": self.filled}
        del record["site"]
        return {**self.site._asdict(), **record, **{k: _finite(record[k]) for k in _NUMBERS}}


@dataclass(frozen=True)
class Receipt:
    """Every site of either side, sorted. It is `ok` if no site has a problem."""

    sites: tuple[SiteReceipt, ...]

    @cached_property
    def problems(self) -> list[str]:
        return [site.problem for site in self.sites if site.problem]

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def exact(self) -> bool:
        return all(site.exact for site in self.sites)

    @property
    def num_sites(self) -> int:
        return len(self.sites)

    @property
    def num_filled(self) -> int:
        return sum(site.filled for site in self.sites)

    @property
    def worst(self) -> Site:
        """The site that changed most for its size, of those with a problem if any has one."""
        rows = [row for row in self.sites if row.problem] or self.sites
        return max(rows, key=lambda row: (row.max_rel, row.max_abs)).site

    @property
    def max_abs(self) -> float:
        return max(site.max_abs for site in self.sites)

    @property
    def max_rel(self) -> float:
        return max(site.max_rel for site in self.sites)

    @property
    def bytes_before(self) -> int:
        return sum(site.before.nbytes for site in self.sites if site.before)

    @property
    def bytes_after(self) -> int:
        return sum(site.after.nbytes for site in self.sites if site.after)

    def __str__(self) -> str:
        if not self.ok:
            return f"{len(self.problems)} of {self.num_sites} sites are not the same"
        if self.exact:
            return f"exact at all {self.num_sites} sites"
        dtypes = {s.dtype for row in self.sites for s in (row.before, row.after) if s}
        return (
            f"{self.num_sites} sites within the rounding of {', '.join(sorted(dtypes))}: "
            f"at most {_percent(self.max_rel)} off"
        )

    def record(self) -> dict[str, Any]:
        """The receipt as JSON has it."""
        names = ("ok", "exact", "num_sites", "num_filled", "bytes_before", "bytes_after")
        return {name: getattr(self, name) for name in names} | {
            "max_abs": _finite(self.max_abs),
            "max_rel": _finite(self.max_rel),
            "worst": str(self.worst),
            "problems": self.problems,
            "sites": [site.record() for site in self.sites],
        }

    def rows(self) -> list[list[str]]:
        """A table, its head first: a row for each module, over all its layers."""
        head = ["module", "sites", "rank", "scale", "dtype", "bytes", "max |Δ|", "relative"]
        modules = sorted({row.site.module for row in self.sites})
        rows = (_module(m, [row for row in self.sites if row.site.module == m]) for m in modules)
        return [[*head, "bound", "result"], *rows]


def compare(source: Adapter, written: Adapter, *, mutual: bool = False) -> Receipt:
    """Compare what was written with what was read, site by site.

    `source` is the truth, and `written` may be off by what its dtypes' rules allow. If
    `mutual`, either may be the rounding of an original that nobody shows.
    """
    found = sorted({*source.sites, *written.sites})
    with np.errstate(over="ignore", invalid="ignore"):
        return Receipt(
            tuple(_compared(s, source.sites.get(s), written.sites.get(s), mutual) for s in found)
        )


def _compared(site: Site, source: Lora | None, written: Lora | None, mutual: bool) -> SiteReceipt:
    """One site, whichever side has it."""
    like = source or written
    assert like is not None
    row = SiteReceipt(site, Stored.of(source), Stored.of(written))
    worst = replace(row, max_abs=math.inf, max_rel=math.inf)
    if source and written and source.shape != written.shape:
        return replace(worst, problem=f"{site} is {written.shape} now, and was {source.shape}")
    one, other = (Factors.of(o) if o else Factors.nothing(like) for o in (source, written))
    if not (one.is_finite() and other.is_finite()):
        return replace(worst, problem=f"{site} holds NaN or infinite weights")
    one, other = padded(one, other)
    change = difference(one, other)
    if is_zero(change):
        return row
    off, size = change.largest(), one.largest()
    row = replace(row, max_abs=off, max_rel=off / size if 0 < size < math.inf else math.inf)
    if source is None:
        return replace(row, problem=f"{site} was not there, and adds up to {off:.3g}")
    if written is None:
        return replace(row, problem=f"{site} is missing, and added up to {size:.3g}")
    return _judged(row, one, other, _allowed(source, written, one, other, mutual))


def _judged(row: SiteReceipt, one: Factors, other: Factors, allowed: Factors) -> SiteReceipt:
    """A site whose delta changed: by no more than is allowed, or else with its problem."""
    beyond = _beyond(row, one, other, allowed)
    if beyond is None:
        A, B = one.abs()
        limit = Factors(np.vstack([A + allowed.A, allowed.A]), np.hstack([allowed.B, B]))
        return replace(row, bound=limit.largest() * (1 + 2 * limit.noise()))
    change = difference(one, other)
    if change.is_noise():
        return replace(row, bound=change.abs().largest() * change.noise())
    effect = f"its delta changes by {row.max_abs:.3g} ({_percent(row.max_rel)})"
    return replace(row, problem=f"{row.site}: {beyond}; {effect}")


def _allowed(source: Lora, written: Lora, one: Factors, other: Factors, mutual: bool) -> Factors:
    """How far A and sB may be off: by the written dtypes' rules, and by a scale that moved."""
    A, B = _either(one, other, written) if mutual else _errors(one, written)
    if mutual:
        more = _either(one, other, source)
        A = (A + more.A) * (1 if "f32" in (source.A.dtype, written.A.dtype) else _SIBLINGS)
        B = (B + more.B) * (1 if "f32" in (source.B.dtype, written.B.dtype) else _SIBLINGS)
    if source.scale != written.scale:
        B = B + _FOLDED * np.abs(one.B) + abs(written.scale) * 2**-149
    return Factors(A, B)


def _errors(ideal: Factors, lora: Lora) -> Factors:
    """How far a lora that should be `ideal` may be off by its dtypes' rules."""
    scale, rank = float(np.float32(lora.scale)), lora.rank
    A, B = np.zeros_like(ideal.A), np.zeros_like(ideal.B)
    A[:rank] = rounding_error(ideal.A[:rank], lora.A.dtype)
    if scale:
        B[:, :rank] = abs(scale) * rounding_error(ideal.B[:, :rank] / scale, lora.B.dtype)
    return Factors(A, B)


def _either(one: Factors, other: Factors, lora: Lora) -> Factors:
    """How far a lora may be off an original that is near both: steps double at powers of two."""
    (A1, B1), (A2, B2) = _errors(one, lora), _errors(other, lora)
    return Factors(np.maximum(A1, A2), np.maximum(B1, B2))


def _beyond(row: SiteReceipt, one: Factors, other: Factors, allowed: Factors) -> str | None:
    """The element that is farthest beyond what is allowed, in words; None if there is none."""
    assert row.after
    for name, dtype, off, limit in (
        ("A", row.after.A, np.abs(other.A - one.A), allowed.A),
        ("scale * B", row.after.B, np.abs(other.B - one.B), allowed.B),
    ):
        if (off > limit).any():
            at = np.unravel_index(np.argmax(off - limit), off.shape)
            return (
                f"an element of {name} is off by {off[at]:.3g}, and {dtype} allows {limit[at]:.3g}"
            )
    return None


def _module(name: str, rows: list[SiteReceipt]) -> list[str]:
    """The table's row of a module."""
    wrong = sum(row.problem is not None for row in rows)
    filled = sum(row.filled for row in rows)
    result = f"{wrong} wrong" if wrong else "exact" if all(r.exact for r in rows) else "within"
    return [
        name,
        str(len(rows)),
        _moved(rows, lambda stored: f"{stored.rank}"),
        _moved(rows, lambda stored: f"{stored.scale:g}"),
        _moved(rows, lambda stored: stored.dtype),
        _arrow(*(f"{sum(s.nbytes for s in side):,}" for side in _sides(rows))),
        f"{max(row.max_abs for row in rows):.2g}",
        _percent(max(row.max_rel for row in rows)),
        f"{max(row.bound for row in rows):.2g}",
        result + (f", {filled} filled" if filled else ""),
    ]


def _sides(rows: list[SiteReceipt]) -> tuple[list[Stored], list[Stored]]:
    return [r.before for r in rows if r.before], [r.after for r in rows if r.after]


def _moved(rows: list[SiteReceipt], text: Callable[[Stored], str]) -> str:
    """What a column says before and after: `48, 64 → 64`."""
    return _arrow(*(", ".join(sorted({text(s) for s in side})) for side in _sides(rows)))


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before or 'none'} → {after or 'none'}"


def _percent(share: float) -> str:
    return "all of it" if math.isinf(share) else f"{100 * share:.2g} %"


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
