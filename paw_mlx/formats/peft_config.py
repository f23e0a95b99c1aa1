"""What a PEFT config says about modules: which are adapted, of what rank, with what alpha.

Its lists, suffixes and regular expressions mean the paths of the model that was trained, and
are matched as peft matches them. An expression that could run for ages is refused.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from ..adapter import Site
from ..errors import AdapterMismatch, FormatError
from ..families import Family
from .untrusted import number, shown

_ALL_LINEAR = "all-linear"
_REPEATS = re.compile(r"[*+{]")


class Scaling:
    """The alpha of every site, after the patterns and rsLoRA."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.alphas = _Pattern(config, "lora_alpha", "alpha_pattern")
        self.ranks = _Pattern(config, "r", "rank_pattern")
        self.rslora = config.get("use_rslora") or False
        if not isinstance(self.rslora, bool):
            raise FormatError(f"use_rslora is {shown(self.rslora)}, not true or false")

    def alpha(self, site: Site, path: str, rank: int) -> float:
        """Return the alpha of a site whose A has `rank` rows."""
        declared, alpha = self.ranks.at(path), self.alphas.at(path)
        if declared is not None and declared != rank:
            raise AdapterMismatch(
                f"the config gives {site} the rank {declared:g}, and its A has {rank} rows"
            )
        if alpha is None:
            raise FormatError(
                "the config has no lora_alpha, and the scale is alpha / r",
                hint="Add the lora_alpha it was trained with.",
            )
        # alpha / r is the scale everywhere else, so rsLoRA's square root moves into alpha.
        return alpha * math.sqrt(rank) if self.rslora else alpha


class _Pattern:
    """A number of the config, and the pattern that overrides it by path."""

    def __init__(self, config: Mapping[str, Any], key: str, name: str) -> None:
        value, pattern = config.get(key), config.get(name) or {}
        self.default = None if value is None else number(value, key)
        if not isinstance(pattern, dict):
            raise FormatError(f"{name} is {shown(pattern)}, not an object of numbers")
        num_regexes = sum(bool(_REPEATS.search(p)) for p in pattern)
        if len(pattern) > 4096 or num_regexes > 32:
            raise FormatError(
                f"{name} has {len(pattern)} entries, {num_regexes} of them regular "
                "expressions (limits 4096 and 32)"
            )
        self.overrides = [
            (_compile(rf"(?:.*\.)?(?:{p})", name, 3), number(v, name)) for p, v in pattern.items()
        ]

    def at(self, path: str) -> float | None:
        """Return the number for a path: that of the first pattern that matches, or the default."""
        return next((v for regex, v in self.overrides if regex.fullmatch(path)), self.default)


def declared_sites(config: Mapping[str, Any], family: Family, layers: int) -> Iterator[Site]:
    """Yield every site the config says there is."""
    targets = _Paths(config.get("target_modules"), "target_modules", family)
    excluded = _Paths(config.get("exclude_modules") or [], "exclude_modules", family)
    layer = _Layers(config)
    for site in (Site(i, m) for i in range(layers) for m in family.modules):
        path = family.path(site)
        # peft asks for the layer only where a list has a path's end, and not the whole of it.
        chosen = targets.regex or targets.names(path) or layer.match(path, site)
        if chosen and targets.match(path, site) and not excluded.match(path, site):
            yield site


class _Layers:
    """`layers_to_transform`, and the names that `layers_pattern` gives the list of layers."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        only, patterns = config.get("layers_to_transform"), config.get("layers_pattern") or []
        only = [only] if isinstance(only, int) else only
        if not isinstance(only, list | None) or not all(type(i) is int for i in only or ()):
            raise FormatError(f"layers_to_transform is {shown(only)}, not layer numbers")
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
            raise FormatError(f"layers_pattern is {shown(patterns)}, not names of layers")
        self.only = frozenset(only or ())
        self.regexes = [
            _compile(rf"(?:^|.*?\.){p}\.(?P<idx>\d+)\.", "layers_pattern", 5) for p in patterns[:16]
        ]

    def match(self, path: str, site: Site) -> bool:
        """Return whether a site's layer is one that is adapted."""
        if not self.only:
            return True
        named = not self.regexes or any(regex.match(path) for regex in self.regexes)
        return named and site.layer in self.only


class _Paths:
    """A choice of modules, as PEFT writes it: a list of suffixes, a regex or "all-linear"."""

    def __init__(self, value: object, what: str, family: Family) -> None:
        self.suffixes: frozenset[str] = frozenset()
        self.regex: re.Pattern[str] | None = None
        if isinstance(value, str) and value.lower() == _ALL_LINEAR:
            self.suffixes = frozenset(family.paths.values())
        elif isinstance(value, str):
            self.regex = _compile(value, what, 5)
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            self.suffixes = frozenset(value)
        else:
            raise FormatError(f"{what} is {shown(value)}, not a list of modules")

    def names(self, path: str) -> bool:
        """Return whether the list has a whole path."""
        return path in self.suffixes

    def match(self, path: str, site: Site) -> bool:
        """Return whether a site is among the modules."""
        if self.regex:
            return self.regex.fullmatch(path) is not None
        # The hub's GPT-2 programs list the mapper's module names instead of paths.
        parts = path.split(".")
        ends = (".".join(parts[i:]) for i in range(len(parts)))
        return site.module in self.suffixes or any(end in self.suffixes for end in ends)


def _compile(pattern: str, what: str, most: int) -> re.Pattern[str]:
    """Compile a file's own regular expression, unless it could run for ages."""
    if (
        len(pattern) > 1000
        or re.search(r"\)[*+{]|\\\d", pattern)
        or len(_REPEATS.findall(pattern)) > most
    ):
        raise FormatError(
            f"{what} has a pattern too elaborate to trust: {shown(pattern)}",
            hint=f"Write plain names of modules into {what}.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise FormatError(f"{what} has an invalid pattern: {shown(pattern)}") from error
