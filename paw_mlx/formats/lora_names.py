"""The names that the tensors of a LoRA have had, from peft 0.2 to now, and in checkpoints.

    <wrappers>base_model.model.<path>.lora_A.weight            as peft saves it
    <wrappers>base_model.model.<path>.lora_A.default.weight    as the model itself is saved
    <wrappers><path>.lora_a                                    by hand

The list of layers stands where the base had it when it was trained (`model.layers`, `layers`,
`base_model.model.model.layers`). A config's patterns mean those paths, so they are kept.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection

from ..adapter import Site
from ..errors import AdapterMismatch, listed
from ..families import FAMILIES, Family
from ..profiles import Profile
from .sites import Pair, pair_names
from .untrusted import shown

_TENSOR = re.compile(r"(.+)\.lora_([ABab])(?:(?:\.([^.]+))?\.weight)?")
# What wraps a module under a name of its own: torch.compile, FSDP, activation checkpoints.
_WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PEFT = re.compile(r"(?:.*?\.)??base_model\.model\.(.+)")
_LAYERS = re.compile(r"((?:(?:base_model|model|module|transformer)\.)*(?:layers|h))\.\d")


def is_lora(name: str) -> bool:
    """Return whether a tensor is an A or a B, or would be, of whatever module."""
    return ".lora_" in name


def locate(names: Collection[str], profile: Profile | None) -> tuple[dict[Site, Pair], Family]:
    """Find every site's tensor names, and the base's family, its layers where the names say.

    AdapterMismatch lists names that are no half of a known site, half pairs, and adapters if
    there are several.
    """
    matches = [match for name in names if (match := _TENSOR.fullmatch(name))]
    adapters = sorted({match[3] or "" for match in matches})
    if len(adapters) > 1:
        raise AdapterMismatch(
            f"{len(adapters)} adapters are in one file: {listed([shown(a) for a in adapters])}",
            hint="Save one alone: model.save_pretrained(path, selected_adapters=[name]).",
        )
    family = _find_family([_strip(match[1]) for match in matches], profile)
    return pair_names(names, _TENSOR, lambda path: family.site_of_path(_strip(path))), family


def _strip(path: str) -> str:
    """Return the path as peft saw it: without wrappers and its own `base_model.model.`."""
    path = _WRAPPERS.sub("", path)
    inside = _PEFT.fullmatch(path)
    return inside[1] if inside else path


def _find_family(paths: list[str], profile: Profile | None) -> Family:
    """Find the family that knows most of these paths, its layers where most of them are."""
    families = [profile.family] if profile else list(FAMILIES.values())
    roots = Counter(match[1] for path in paths if (match := _LAYERS.match(path)))
    if not roots:
        return families[0]
    root = roots.most_common(1)[0][0]
    last = root.split(".")[-1]  # `layers` or `h`, which no wrapper renames
    moved = [
        dataclasses.replace(f, layers=root) for f in families if f.layers.split(".")[-1] == last
    ]
    known = {f.name: sum(f.site_of_path(path) is not None for path in paths) for f in moved}
    return max(moved, key=lambda f: known[f.name], default=families[0])
