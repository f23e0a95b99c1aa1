"""Qwen3: Llama with an RMSNorm over each head of q and k, before the rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import llama
from .llama import Model

__all__ = ["Args", "Model"]


class Args(llama.Args):
    """The sizes of a base, from its config."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> llama.Args:
        """Read a Hugging Face config; FormatError for what this model does not do."""
        return replace(llama.Args.from_config(config), qk_norm=True)
