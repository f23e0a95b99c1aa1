"""A base as its files hold it: config, layers, tokenizer; nothing evaluated yet.

Every kind of file becomes the same thing: a Hugging Face config, and layers under Hugging
Face's paths, in which a packed weight is `weight` (uint32), `scales` and `biases`. Weights
are (out, in) whatever the file has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx

from ...errors import FormatError
from ...formats.fingerprint import RECORD
from ...formats.untrusted import shown
from ...profiles import MAX_SIZE
from .tensors import Tensors
from .tokenizer import Tokenizer

MLX_LM_PREFIX = "model."  # where mlx-lm keeps a model whose tensors have a prefix of their own


@dataclass(frozen=True, eq=False)
class Source:
    """A base as read.

    `layers` maps a path (`model.norm`) to what reads its tensors (`weight`): pop it, and the
    memory is free as soon as they are done with. `dtype` is the type of its weights, `decoded`
    whether some are decoded from what MLX has no packing for, which takes a while.
    """

    config: dict[str, Any] = field(repr=False)
    layers: dict[str, Callable[[], Tensors]] = field(repr=False)
    tokenizer: Tokenizer
    dtype: mx.Dtype
    decoded: bool = False

    @property
    def record(self) -> dict[str, Any]:
        """What was recorded when it was converted; empty for any other base."""
        record = self.config.get(RECORD)
        return record if isinstance(record, dict) else {}

    @property
    def context(self) -> int:
        """How many positions its config gives it."""
        of_gpt2 = self.config["model_type"] == "gpt2"
        return int(self.config["n_positions" if of_gpt2 else "max_position_embeddings"])

    @property
    def eos_ids(self) -> list[int]:
        """The ids its config says end an output."""
        return eos_ids(self.config)


def eos_ids(config: Mapping[str, Any]) -> list[int]:
    """Return the ids that a config says end an output; none, one or several.

    FormatError for what is no token's id.
    """
    given = config.get("eos_token_id")
    ids = given if isinstance(given, list) else [] if given is None else [given]
    if not all(type(i) is int and 0 <= i <= MAX_SIZE for i in ids):
        raise FormatError(f"the base's config gives eos_token_id as {shown(given)}")
    return ids


def by_layer(tensors: Tensors) -> dict[str, Callable[[], Tensors]]:
    """Return tensors as the layers of a `Source`; they are taken out of `tensors`."""
    layers: dict[str, Tensors] = {}
    for name in list(tensors):
        layer, _, part = name.rpartition(".")
        layers.setdefault(layer, {})[part] = tensors.pop(name)
    return {layer: partial(dict, parts) for layer, parts in layers.items()}
