"""Between tensor names and sites: what the readers and writers of all layouts share.

A reader must account for every tensor: none left over, no A without its B, no site that
was declared and is not there. A writer for a layout with less freedom than the canonical
form fills gaps with zeros and folds unequal factors into B, in float32.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ..adapter import Adapter, Lora, Matrix, Site
from ..errors import AdapterMismatch, OptionError, listed
from ..families import FAMILIES, MAX_LAYERS, Family
from ..profiles import Profile
from .untrusted import shown


class Found(NamedTuple):
    """What a file holds: an adapter, and the base it names ("" where it names none)."""

    adapter: Adapter
    interpreter: str


class Pair(NamedTuple):
    """The tensor names of A and B of one site."""

    A: str
    B: str


def pair_names(
    names: Iterable[str], pattern: re.Pattern[str], site_of: Callable[[str], Site | None]
) -> dict[Site, Pair]:
    """Pair tensor names by site. `pattern` takes a name apart: module and half (A or B).

    AdapterMismatch lists the names that are no half of a known site, and half pairs.
    """
    found: dict[Site, dict[str, str]] = {}
    unknown = []
    for name in sorted(names):
        match = pattern.fullmatch(name)
        site = site_of(match[1]) if match else None
        half = match[2].upper() if match else ""
        if site is None or site.layer >= MAX_LAYERS or half in found.get(site, {}):
            unknown.append(shown(name))
        else:
            found.setdefault(site, {})[half] = name
    if unknown:
        raise AdapterMismatch(
            f"{len(unknown)} tensors are no A or B of a linear module this knows: {listed(unknown)}"
        )
    halves = [f"{s} has no {'B' if 'A' in h else 'A'}" for s, h in found.items() if len(h) == 1]
    if halves:
        raise AdapterMismatch(f"{len(halves)} sites are half there: {listed(sorted(halves))}")
    return {site: Pair(**half) for site, half in sorted(found.items())}


def family_of(names: Iterable[str], pattern: re.Pattern[str]) -> Family:
    """Return the family that knows most of the paths in these tensor names; some share them."""
    paths = [match[1] for name in names if (match := pattern.fullmatch(name))]
    return max(
        FAMILIES.values(), key=lambda f: sum(f.site_of_path(path) is not None for path in paths)
    )


def check_complete(found: Iterable[Site], declared: Iterable[Site]) -> None:
    """Raise AdapterMismatch, listing the declared sites that are not there."""
    missing = sorted(set(declared) - set(found))
    if missing:
        raise AdapterMismatch(
            f"{len(missing)} sites should be there, and have no tensors: {listed(missing)}",
            hint="The file is incomplete: fetch or export it again.",
        )


def num_layers(sites: Iterable[Site], profile: Profile | None) -> int:
    """Return how many layers the base has, or must at least have for these sites."""
    return profile.num_layers if profile else 1 + max((s.layer for s in sites), default=-1)


def fill(adapter: Adapter, sites: Iterable[Site], profile: Profile) -> Adapter:
    """Return the adapter with zeros at those of `sites` it lacks."""
    missing = [site for site in sites if site not in adapter.sites]
    if not missing:
        return adapter
    rank, alpha = adapter.ranks[-1], adapter.alphas[-1]
    added: dict[Site, Lora] = {}
    for site in missing:
        d_in, d_out = profile.shapes[site.module]
        A, B = np.zeros((rank, d_in), np.float32), np.zeros((d_out, rank), np.float32)
        added[site] = Lora(Matrix.from_array(A), Matrix.from_array(B), alpha)
    return Adapter({**adapter.sites, **added})


def fold(B: Matrix, factor: float) -> Matrix:
    """Return B times a factor, in float32; as it is stored where the factor is one."""
    if factor == 1:
        return B
    with np.errstate(over="ignore", invalid="ignore"):
        made = Matrix.from_array(B.dense() * np.float32(factor))
    if not made.is_finite():
        raise OptionError(
            f"the scales differ too much for a layout with one: B times {factor:.4g} is infinite",
            hint="PEFT has an alpha for every site.",
        )
    return made


def factor(value: float, common: float) -> float:
    """Return what B is multiplied by where a layout has one scale; alike but for an ulp is 1."""
    return 1.0 if math.isclose(value, common, rel_tol=1e-12) else value / common


def commonest(values: Iterable[float]) -> float:
    """Return the value seen most often, the greatest of several."""
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], value))


def by_path(adapter: Adapter, family: Family) -> Mapping[str, Lora]:
    """Return the adapter's sites under their Hugging Face paths."""
    return {family.path(site): lora for site, lora in sorted(adapter.sites.items())}
