"""What changed between two versions of a program: texts, meta, and how far its adapter moved.

An adapter's size is the Frobenius norm of its deltas; how far it moved is that norm of their
difference. Both are computed from the small factors, and where nothing moved it is zero.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from paw_mlx.adapter import Lora, Site
from paw_mlx.convert.factors import Factors, difference, pad

if TYPE_CHECKING:
    from paw_mlx.convert.program import Artifact
    from paw_mlx.program import Program

_TEXTS = ("spec", "pseudo_program", "template", "interpreter")


class Moved(NamedTuple):
    """Norms over some sites: of A's deltas, of B's, and of their difference."""

    a: float
    b: float
    difference: float

    @property
    def relative(self) -> float | None:
        """The difference in parts of A's norm; None where A has nothing there."""
        return self.difference / self.a if self.a else None

    def record(self) -> dict[str, float | None]:
        return {**self._asdict(), "relative": self.relative}


@dataclass(frozen=True)
class MetaChanges:
    """Keys of meta.json, those of nested objects joined by dots."""

    added: Mapping[str, Any]
    removed: Mapping[str, Any]
    changed: Mapping[str, tuple[Any, Any]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Diff:
    """What changed from A to B. `texts` holds a unified diff, line by line, of each text that
    did; sites of another shape count as in A alone and in B alone."""

    texts: Mapping[str, list[str]]
    meta: MetaChanges
    only_a: tuple[Site, ...]
    only_b: tuple[Site, ...]
    sites: Mapping[Site, Moved] = field(repr=False)

    @property
    def adapter(self) -> Moved:
        return _add_up(list(self.sites.values()))

    @property
    def layers(self) -> dict[int, Moved]:
        return self._group(lambda site: site.layer)

    @property
    def modules(self) -> dict[str, Moved]:
        return self._group(lambda site: site.module)

    def record(self) -> dict[str, Any]:
        """Return the changes as JSON has them."""
        return {
            "texts": dict(self.texts),
            "meta": asdict(self.meta),
            "adapter": self.adapter.record(),
            "layers": {str(layer): moved.record() for layer, moved in self.layers.items()},
            "modules": {module: moved.record() for module, moved in self.modules.items()},
            "only_a": [str(site) for site in self.only_a],
            "only_b": [str(site) for site in self.only_b],
        }

    def _group(self, key: Callable[[Site], Any]) -> dict[Any, Moved]:
        """Add up the sites that share a layer or a module, sorted by it."""
        groups: dict[Any, list[Moved]] = {}
        for site, moved in self.sites.items():
            groups.setdefault(key(site), []).append(moved)
        return {name: _add_up(groups[name]) for name in sorted(groups)}


def diff(a: Artifact, b: Artifact) -> Diff:
    """Return what changed from `a` to `b`; bare adapters have no texts and no meta."""
    one, other = a.adapter.sites, b.adapter.sites
    sites = sorted({*one, *other})
    texts = {}
    for name in _TEXTS:
        lines = difflib.unified_diff(_lines(a.program, name), _lines(b.program, name), lineterm="")
        texts[name] = list(lines)[2:]  # without the names of files
    return Diff(
        texts={name: lines for name, lines in texts.items() if lines},
        meta=_diff_meta(a.program, b.program),
        only_a=_only_in(one, other),
        only_b=_only_in(other, one),
        sites={site: _measure(one.get(site), other.get(site)) for site in sites},
    )


def _lines(program: Program | None, name: str) -> list[str]:
    if program is None:
        return []
    text = program.template.text if name == "template" else getattr(program, name)
    return text.split("\n") if text else []


def _diff_meta(a: Program | None, b: Program | None) -> MetaChanges:
    one, other = _own_meta(a), _own_meta(b)
    both = sorted(one.keys() & other.keys())
    return MetaChanges(
        added={key: other[key] for key in sorted(other.keys() - one.keys())},
        removed={key: one[key] for key in sorted(one.keys() - other.keys())},
        changed={key: (one[key], other[key]) for key in both if one[key] != other[key]},
    )


def _own_meta(program: Program | None) -> dict[str, Any]:
    """Return a program's meta without the texts that it repeats: they are told already."""
    flat = _flatten(program.meta) if program else {}
    return {key: value for key, value in flat.items() if key not in _TEXTS}


def _flatten(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Make one object of nested ones, their keys joined by dots; an empty one stays a value."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            flat |= _flatten(inner, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = inner
    return flat


def _only_in(one: Mapping[Site, Lora], other: Mapping[Site, Lora]) -> tuple[Site, ...]:
    """Return the sites of one that the other lacks, or has in another shape."""
    return tuple(
        site
        for site, lora in sorted(one.items())
        if site not in other or other[site].shape != lora.shape
    )


def _measure(one: Lora | None, other: Lora | None) -> Moved:
    """Measure how far a site moved; from or to nothing where only one has it."""
    like = one or other
    assert like is not None
    a, b = (Factors.of(lora) if lora else Factors.nothing(like) for lora in (one, other))
    if one and other and one.shape != other.shape:  # all of one went, all of the other came
        return Moved(a.norm(), b.norm(), math.hypot(a.norm(), b.norm()))
    return Moved(a.norm(), b.norm(), difference(*pad(a, b)).norm())


def _add_up(moved: list[Moved]) -> Moved:
    return Moved(*(math.hypot(*column) for column in zip(*moved, strict=True)))
