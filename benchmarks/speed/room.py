"""Whether a chat model fits: what it takes on mlx-lm by arithmetic, what this machine lends."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paw_mlx import machine
from paw_mlx.benchmarks.speed.sizes import SLACK_BYTES, Form, Sizes, mlx_lm_cache_bytes
from paw_mlx.errors import FormatError, PawError

CHAT_TOKENS = 32  # that a chat template and the question around an input take


@dataclass(frozen=True)
class Needed:
    """Bytes that a model takes."""

    weight_bytes: int
    prompt_bytes: int  # keys and values of one prompt after the other, at most
    call_bytes: int = 0  # the same of each of several calls at once
    kept_bytes: int = 0  # of an interpreter that stays beside it

    @property
    def limit(self) -> float:
        """What this machine gives; of what is not known no limit is."""
        limit = machine.limit_bytes()
        return math.inf if limit is None else limit

    def bytes(self, at_once: int = 1) -> int:
        """Add up what so many calls at once take."""
        kv_bytes = max(self.prompt_bytes, at_once * self.call_bytes)
        return self.weight_bytes + kv_bytes + SLACK_BYTES + self.kept_bytes

    def check(self) -> None:
        """Raise PawError, with the numbers, if it does not fit."""
        if self.bytes() <= self.limit:
            return
        parts = {
            "weights": self.weight_bytes,
            "keys and values": max(self.prompt_bytes, self.call_bytes),
            "the interpreter beside it": self.kept_bytes,
            "besides": SLACK_BYTES,
        }
        told = ", ".join(f"{size / 1e9:.1f} {name}" for name, size in parts.items() if size)
        raise PawError(
            f"it needs {self.bytes() / 1e9:.1f} GB ({told}), "
            f"and this machine gives {self.limit / 1e9:.1f} GB"
        )


def cache_bytes(sizes: Sizes | None, tokens: int) -> int:
    """Compute mlx-lm's cache for so many tokens, of the window at most; 0 if not known."""
    return mlx_lm_cache_bytes(sizes, min(tokens, sizes.profile.window)) if sizes else 0


def weight_bytes(path: Path) -> int:
    """Return what a model's files hold, or the one that it is."""
    files = [path] if path.is_file() else path.glob("model*.safetensors")
    return sum(file.stat().st_size for file in files if file.is_file())


def read_config(path: Path) -> dict[str, Any]:
    """Read a folder's model config; FormatError for what is none."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        config["quantization"] = dict(config.get("quantization") or {})
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise FormatError(f"the config.json of {path.name} is no model's") from error
    return config


def sizes_of(config: dict[str, Any], bits: int | None) -> Sizes | None:
    """Return shapes as mlx-lm holds them in so many bits; None for a family not known here."""
    packed = bits if bits and bits < 16 else None
    try:
        return Sizes.of(config, Form(packed, 2 if machine.mlx().device == "gpu" else 4))
    except FormatError:
        return None
