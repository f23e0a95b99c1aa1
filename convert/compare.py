"""The proof that what was written is what was read, site by site.

Nothing is taken from how a writer works. Each factor is held to what the target's dtype may do
to it (`rounding`), element by element, where a sum over the rank would blur it; the bound on
the delta follows from that:

    |A' - A| <= eA,  |s'B' - sB| <= eB    =>    |delta' - delta| <= eB (|A| + eA) + |sB| eA

Ranks may be padded with zeros and scales folded into B. Factors that are others altogether pass
only if float32 cannot tell their deltas apart.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from paw_mlx.adapter import Adapter, Lora, Site
from paw_mlx.convert.factors import Factors, U, difference, is_zero, pad
from paw_mlx.convert.receipt import Receipt, SiteReceipt, StoredSite, percent
from paw_mlx.convert.rounding import rounding_error

_FOLDED = 8 * U  # a scale folded in float32 rounds the factor, the product, alpha, both scales
_SIBLINGS = 1.125  # two roundings of one original: neither is it, and their rules shift a little


def compare(source: Adapter, written: Adapter, *, mutual: bool = False) -> Receipt:
    """Compare what was written with what was read, site by site.

    `source` is the truth, and `written` may be off by what its dtypes' rules allow. If
    `mutual`, either may be the rounding of an original that nobody shows.
    """
    found = sorted({*source.sites, *written.sites})
    with np.errstate(over="ignore", invalid="ignore"):
        return Receipt(
            tuple(_compare_at(s, source.sites.get(s), written.sites.get(s), mutual) for s in found)
        )


def _compare_at(site: Site, source: Lora | None, written: Lora | None, mutual: bool) -> SiteReceipt:
    """Compare one site, whichever side has it."""
    like = source or written
    assert like is not None
    row = SiteReceipt(site, StoredSite.of(source), StoredSite.of(written))
    worst = replace(row, max_abs=math.inf, max_rel=math.inf)
    if source and written and source.shape != written.shape:
        return replace(worst, problem=f"{site} is {written.shape} now, and was {source.shape}")
    one, other = (Factors.of(o) if o else Factors.nothing(like) for o in (source, written))
    if not (one.is_finite() and other.is_finite()):
        return replace(worst, problem=f"{site} holds NaN or infinite weights")
    one, other = pad(one, other)
    change = difference(one, other)
    if is_zero(change):
        return row
    off, size = change.largest(), one.largest()
    row = replace(row, max_abs=off, max_rel=off / size if 0 < size < math.inf else math.inf)
    if source is None:
        return replace(row, problem=f"{site} was not there, and adds up to {off:.3g}")
    if written is None:
        return replace(row, problem=f"{site} is missing, and added up to {size:.3g}")
    return _judge(row, one, other, _tolerance(source, written, one, other, mutual))


def _judge(row: SiteReceipt, one: Factors, other: Factors, allowed: Factors) -> SiteReceipt:
    """Judge a site whose delta changed: by no more than is allowed, or else with its problem."""
    beyond = _find_excess(row, one, other, allowed)
    if beyond is None:
        A, B = one.abs()
        limit = Factors(np.vstack([A + allowed.A, allowed.A]), np.hstack([allowed.B, B]))
        return replace(row, bound=limit.largest() * (1 + 2 * limit.noise()))
    change = difference(one, other)
    if change.is_noise():
        return replace(row, bound=change.abs().largest() * change.noise())
    effect = f"its delta changes by {row.max_abs:.3g} ({percent(row.max_rel)})"
    return replace(row, problem=f"{row.site}: {beyond}; {effect}")


def _tolerance(source: Lora, written: Lora, one: Factors, other: Factors, mutual: bool) -> Factors:
    """Return how far A and sB may be off: by the dtypes' rules, and by a scale that moved."""
    A, B = _errors_of_either(one, other, written) if mutual else _errors(one, written)
    if mutual:
        more = _errors_of_either(one, other, source)
        A = (A + more.A) * (1 if "f32" in (source.A.dtype, written.A.dtype) else _SIBLINGS)
        B = (B + more.B) * (1 if "f32" in (source.B.dtype, written.B.dtype) else _SIBLINGS)
    if source.scale != written.scale:
        B = B + _FOLDED * np.abs(one.B) + abs(written.scale) * 2**-149
    return Factors(A, B)


def _errors(ideal: Factors, lora: Lora) -> Factors:
    """Return how far a lora that should be `ideal` may be off by its dtypes' rules."""
    scale, rank = float(np.float32(lora.scale)), lora.rank
    A, B = np.zeros_like(ideal.A), np.zeros_like(ideal.B)
    A[:rank] = rounding_error(ideal.A[:rank], lora.A.dtype)
    if scale:
        B[:, :rank] = abs(scale) * rounding_error(ideal.B[:, :rank] / scale, lora.B.dtype)
    return Factors(A, B)


def _errors_of_either(one: Factors, other: Factors, lora: Lora) -> Factors:
    """Return how far a lora may be off an original near both: steps double at powers of two."""
    (A1, B1), (A2, B2) = _errors(one, lora), _errors(other, lora)
    return Factors(np.maximum(A1, A2), np.maximum(B1, B2))


def _find_excess(row: SiteReceipt, one: Factors, other: Factors, allowed: Factors) -> str | None:
    """Say which element is farthest beyond what is allowed; None if there is none."""
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
