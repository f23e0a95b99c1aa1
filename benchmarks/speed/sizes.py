"""Bytes by arithmetic: what a model takes before it is made, and whether this machine has them.

Nothing here looks at an array; the benchmark puts what it measured beside what this computes.

    weights    every element at its bits, and with each group of a packed row a scale and a bias
    adapter    what one program adds while it runs alone: A below the base's rows, B beside them
    kv         k and v of a token in every layer
    workspace  what the largest step holds besides: its widest layer, and attention's scores
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from paw_mlx import machine
from paw_mlx.adapter import Adapter
from paw_mlx.device import on_gpu
from paw_mlx.errors import FormatError, PawError
from paw_mlx.interpreter.adapters.hot import ALIGNED
from paw_mlx.interpreter.adapters.parallel import GROUP
from paw_mlx.interpreter.engine.admission import ROOM_TOKENS
from paw_mlx.interpreter.engine.decode import PREFILL_TOKENS
from paw_mlx.interpreter.engine.kv import BLOCK
from paw_mlx.profiles import Profile

GROUP_SIZE = 64
CHAT_TOKENS = 32  # that a chat template and the question around an input take
SLACK_BYTES = 1_000_000_000  # what libraries and a step take, where that is not computed
_MLX_LM_BLOCK, _MLX_LM_PREFILL = 256, 2048  # tokens: its caches grow by, are evaluated at once
# The linear layers of a block that read the same x, and are one product.
_PRODUCTS = (
    ("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",),
    ("c_attn",), ("attn_c_proj",), ("c_fc",), ("mlp_c_proj",),
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How weights are held: `bits` None is dense, in `dtype_bytes` an element.

    `fused` says whether attention is one kernel, that keeps no scores.
    """

    bits: int | None
    dtype_bytes: int
    group_size: int = GROUP_SIZE
    fused: bool = True

    @classmethod
    def of(cls, form: str) -> Form:
        """Read a form as `Base.form` words it: the first packing stands for all."""
        size = getattr(mx, form.partition(",")[0]).size
        packing = re.search(r"(\d+)-bit g(\d+)", form)
        bits, group_size = map(int, packing.groups()) if packing else (None, GROUP_SIZE)
        return cls(bits, size, group_size, on_gpu())

    def matrix(self, rows: int, columns: int) -> int:
        """Compute the bytes of a weight."""
        if self.bits is None:
            return rows * columns * self.dtype_bytes
        affine = rows * columns // self.group_size * 2 * self.dtype_bytes
        return rows * columns * self.bits // 8 + affine


@dataclass(frozen=True)
class Sizes:
    """A model's shapes, in one form."""

    profile: Profile
    hidden: int
    vocab: int
    tied: bool
    form: Form
    num_positions: int = 0  # that have embeddings of their own

    @classmethod
    def of(cls, config: Mapping[str, Any], form: Form) -> Sizes:
        """Take those of a Hugging Face config; FormatError for what is not known here."""
        try:
            profile = Profile.from_config(config)
            hidden = config.get("n_embd") or config["hidden_size"]
            is_gpt2 = profile.family.name == "gpt2"
            tied = bool(config.get("tie_word_embeddings", is_gpt2))
            positions = config["n_positions"] if is_gpt2 else 0
            return cls(profile, hidden, config["vocab_size"], tied, form, positions)
        except (LookupError, TypeError, AttributeError) as error:
            raise FormatError(f"a config without usable shapes: {error}") from error

    @property
    def weight_bytes(self) -> int:
        """All weights: tables of embeddings, linear layers, and norms, biases, positions."""
        profile, layers, hidden = self.profile, self.profile.num_layers, self.hidden
        tables = (1 if self.tied else 2) * self.form.matrix(self.vocab, hidden)
        linear = sum(self.form.matrix(o, i) for i, o in profile.shapes.values())
        if profile.family.name == "gpt2":
            biases = sum(o for _, o in profile.shapes.values())
            small = (2 * (2 * layers + 1) + self.num_positions) * hidden + layers * biases
        else:
            head_dim = profile.shapes["q_proj"][1] // profile.num_heads
            head_norms = 2 * head_dim if profile.family.name == "qwen3" else 0
            small = layers * (2 * hidden + head_norms) + hidden
        return tables + layers * linear + small * self.form.dtype_bytes

    @property
    def kv_bytes(self) -> int:
        """Keys and values of a token."""
        return self.profile.num_kv_elements * self.form.dtype_bytes

    def read_bytes(self, num_prompt: int, num_decode: int) -> int:
        """Compute what a token reads besides the weights, at the middle of those decoded: keys and
        values; less a table of embeddings of its own, of which it reads a row."""
        unread = 0 if self.tied else self.form.matrix(self.vocab, self.hidden)
        return (num_prompt + num_decode // 2) * self.kv_bytes - unread

    def adapter_bytes(self, adapter: Adapter | None) -> int:
        """Compute what a program with this adapter adds while it runs alone."""
        if adapter is None:
            return 0
        packed = all(lora.A.dtype == "q4_0" for lora in adapter.sites.values())
        parts = (self._adapter_part(p, adapter.ranks[-1], packed) for p in self._products())
        return self.profile.num_layers * sum(parts)

    def workspace_bytes(self, tokens: int) -> int:
        """Compute what the widest layer holds while a prompt of so many tokens is evaluated."""
        widest = max(sum(self.profile.shapes[m][1] for m in part) for part in self._products())
        # x and its norm, the product twice (an adapter adds to it), and what is made of it
        elements = tokens * (2 * self.hidden + 2 * widest + widest // 2)
        scores = 0 if self.form.fused else 2 * tokens**2 * self.profile.num_heads
        return (elements + scores) * self.form.dtype_bytes

    def row_bytes(self, tokens: int) -> int:
        """Compute the buffers of a row that has grown to so many tokens."""
        return round_up(tokens, BLOCK) * self.kv_bytes

    def _products(self) -> Iterator[tuple[str, ...]]:
        return (part for part in _PRODUCTS if part[0] in self.profile.shapes)

    def _adapter_part(self, product: tuple[str, ...], rank: int, packed: bool) -> int:
        d_in, form = self.profile.shapes[product[0]][0], self.form
        d_outs = [self.profile.shapes[module][1] for module in product]
        rows = round_up(sum(d_outs) // math.gcd(*d_outs) * rank, ALIGNED)
        b = rank * sum(d_outs) * form.dtype_bytes
        if form.bits is None or form.bits < 4 or not packed:
            return rows * d_in * form.dtype_bytes + b
        regrouped = replace(form, group_size=GROUP)  # Q4_0's, the base's rows, too
        more = regrouped.matrix(sum(d_outs), d_in) - form.matrix(sum(d_outs), d_in)
        return regrouped.matrix(rows, d_in) + b + more


def round_up(number: int, block: int) -> int:
    """Return the next multiple of `block`."""
    return -(-number // block) * block


def peak_bytes(
    sizes: Sizes, num_prompt: int, num_decode: int, num_prefix: int, num_input: int
) -> int:
    """Compute what paw-mlx holds at most, besides weights and adapter, one call at a time.

    First random tokens, then a program: then its prefix is kept beside the row's buffers.
    """
    longest = max(num_prompt + max(num_decode, ROOM_TOKENS), num_prefix + num_input + ROOM_TOKENS)
    step = max(
        sizes.workspace_bytes(min(num_prompt, PREFILL_TOKENS)),
        num_prefix * sizes.kv_bytes + sizes.workspace_bytes(min(num_prefix, PREFILL_TOKENS)),
    )
    return sizes.row_bytes(longest) + step


def mlx_lm_peak_bytes(
    sizes: Sizes, num_prompt: int, num_decode: int, num_prefix: int, num_input: int
) -> int:
    """Compute the same of mlx-lm."""
    call = num_prefix + num_input
    steps = [cache_bytes(sizes, max(num_prompt + num_decode, call))]
    for tokens in (num_prompt, call):  # the last of them is a step of its own
        step = sizes.workspace_bytes(min(tokens, _MLX_LM_PREFILL))
        steps.append(cache_bytes(sizes, tokens - 1) + step)
    return max(steps)


@dataclass(frozen=True)
class Needed:
    """Bytes that a chat model takes on mlx-lm."""

    weight_bytes: int
    prompt_bytes: int  # keys and values of one prompt after the other, at most
    call_bytes: int  # the same of each of several calls at once
    kept_bytes: int  # of an interpreter that stays beside it

    @classmethod
    def of(
        cls, sizes: Sizes | None, path: Path | None, prompt: int, call: int = 0, kept: int = 0
    ) -> Needed:
        """Compute it for prompts and calls of so many tokens; weights are those in files, if there
        are any."""
        weights = sizes.weight_bytes if sizes else 0
        if path:
            files = [path] if path.is_file() else path.glob("model*.safetensors")
            weights = sum(file.stat().st_size for file in files if file.is_file())
        return cls(weights, cache_bytes(sizes, prompt), cache_bytes(sizes, call), kept)

    @property
    def limit(self) -> float:
        """What this machine gives; of what is not known no limit is."""
        limit = machine.limit_bytes()
        return math.inf if limit is None else limit

    def bytes(self, at_once: int = 1) -> int:
        """Add up what so many calls at once take."""
        return self.weight_bytes + self._kv_bytes(at_once) + SLACK_BYTES + self.kept_bytes

    def check(self, at_once: int = 1) -> None:
        """Raise PawError, with the numbers, if it does not fit."""
        if self.bytes(at_once) <= self.limit:
            return
        parts = {
            "weights": self.weight_bytes,
            "keys and values": self._kv_bytes(at_once),
            "the interpreter beside it": self.kept_bytes,
            "besides": SLACK_BYTES,
        }
        told = ", ".join(f"{size / 1e9:.1f} {name}" for name, size in parts.items() if size)
        raise PawError(
            f"it needs {self.bytes(at_once) / 1e9:.1f} GB ({told}), "
            f"and this machine gives {self.limit / 1e9:.1f} GB"
        )

    def _kv_bytes(self, at_once: int) -> int:
        return max(self.prompt_bytes, at_once * self.call_bytes)


def cache_bytes(sizes: Sizes | None, tokens: int) -> int:
    """Compute mlx-lm's cache for so many tokens, of the window at most; 0 if not known."""
    if sizes is None:
        return 0
    return round_up(min(tokens, sizes.profile.window), _MLX_LM_BLOCK) * sizes.kv_bytes


def read_sizes(path: Path) -> Sizes | None:
    """Read the shapes of a folder's model; None for a family not known here, FormatError for what
    is no model's config."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        bits = dict(config.get("quantization") or {}).get("bits")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise FormatError(f"the config.json of {path.name} is no model's") from error
    return mlx_lm_sizes(config, bits)


def mlx_lm_sizes(config: Mapping[str, Any], bits: int | None) -> Sizes | None:
    """Take shapes as mlx-lm holds them in so many bits; None for a family not known here."""
    packed = bits if bits and bits < 16 else None
    try:
        return Sizes.of(config, Form(packed, 2 if machine.mlx().device == "gpu" else 4))
    except FormatError:
        return None
