"""The receipt: what a conversion did to every site. `compare` makes it, and is the proof."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from paw_mlx.adapter import Lora, Site
from paw_mlx.errors import AdapterMismatch, FormatError

_NUMBERS = ("max_abs", "max_rel", "bound")


@dataclass(frozen=True)
class StoredSite:
    """How one side keeps a site."""

    rank: int
    scale: float
    A: str
    B: str
    nbytes: int

    @classmethod
    def of(cls, lora: Lora | None) -> StoredSite | None:
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
    before: StoredSite | None
    after: StoredSite | None
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
        """Return the site as JSON has it: null where a number has no end."""
        record = asdict(self) | {"exact": self.exact, "filled": self.filled}
        del record["site"]
        return {
            **self.site._asdict(),
            **record,
            **{k: _finite_or_none(record[k]) for k in _NUMBERS},
        }


@dataclass(frozen=True)
class Receipt:
    """Every site of either side, sorted. It is `ok` if no site has a problem.

    Raises AdapterMismatch for no site at all, of which all would be well.
    """

    sites: tuple[SiteReceipt, ...]

    def __post_init__(self) -> None:
        if not self.sites:
            raise AdapterMismatch("a receipt is of one site or more, and this one has 0")

    def __repr__(self) -> str:
        return f"<Receipt: {self}>"

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
            f"at most {percent(self.max_rel)} off"
        )

    def record(self) -> dict[str, Any]:
        """Return the receipt as JSON has it."""
        names = ("ok", "exact", "num_sites", "num_filled", "bytes_before", "bytes_after")
        return {name: getattr(self, name) for name in names} | {
            "max_abs": _finite_or_none(self.max_abs),
            "max_rel": _finite_or_none(self.max_rel),
            "worst": str(self.worst),
            "problems": self.problems,
            "sites": [site.record() for site in self.sites],
        }

    def rows(self) -> list[list[str]]:
        """Return a table, its head first: a row for each module, over all its layers."""
        head = ["module", "sites", "rank", "scale", "dtype", "bytes", "max |Δ|", "relative"]
        modules = sorted({row.site.module for row in self.sites})
        rows = (
            _module_row(m, [row for row in self.sites if row.site.module == m]) for m in modules
        )
        return [[*head, "bound", "result"], *rows]


def _module_row(name: str, rows: list[SiteReceipt]) -> list[str]:
    """Return the table's row of a module."""
    wrong = sum(row.problem is not None for row in rows)
    filled = sum(row.filled for row in rows)
    result = f"{wrong} wrong" if wrong else "exact" if all(r.exact for r in rows) else "within"
    return [
        name,
        str(len(rows)),
        _before_after(rows, lambda stored: f"{stored.rank}"),
        _before_after(rows, lambda stored: f"{stored.scale:g}"),
        _before_after(rows, lambda stored: stored.dtype),
        _arrow(*(f"{sum(s.nbytes for s in side):,}" for side in _sides(rows))),
        f"{max(row.max_abs for row in rows):.2g}",
        percent(max(row.max_rel for row in rows)),
        f"{max(row.bound for row in rows):.2g}",
        result + (f", {filled} filled" if filled else ""),
    ]


def _sides(rows: list[SiteReceipt]) -> tuple[list[StoredSite], list[StoredSite]]:
    return [r.before for r in rows if r.before], [r.after for r in rows if r.after]


def _before_after(rows: list[SiteReceipt], text: Callable[[StoredSite], str]) -> str:
    """Say what a column has before and after: `48, 64 → 64`."""
    return _arrow(*(", ".join(sorted({text(s) for s in side})) for side in _sides(rows)))


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before or 'none'} → {after or 'none'}"


def _finite_or_none(number: float) -> float | None:
    return number if math.isfinite(number) else None


class ReceiptError(FormatError):
    """What was written is not what was read; `receipt` tells where."""

    def __init__(self, message: str, receipt: Receipt) -> None:
        super().__init__(
            message,
            hint="Nothing was kept. This is a bug: please report it with the two layouts.",
        )
        self.receipt = receipt

    def record(self, *, hints: bool = True) -> dict[str, Any]:
        """Return the error as JSON has it, and the receipt."""
        return super().record(hints=hints) | {"receipt": self.receipt.record()}


def percent(share: float) -> str:
    """Return a share in words; an infinite one is all of it."""
    return "all of it" if math.isinf(share) else f"{100 * share:.2g} %"
