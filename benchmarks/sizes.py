"""Bytes by arithmetic: what a model of certain shapes takes, before one is made.

Nothing here looks at an array; the benchmark puts what it measured beside what this computes.

    weights    every element at its bits, and with each group of a packed row a scale and a bias
    adapter    what one program adds while it runs alone: A below the base's rows, B beside them
    kv         k and v of a token in every layer
    workspace  what the largest step holds besides: its widest layer, and attention's scores
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any

from paw_mlx.errors import FormatError
from paw_mlx.profiles import Profile

GROUP_SIZE = 64
PACKED_BITS = (2, 3, 4, 5, 6, 8)
SLACK_BYTES = 1_000_000_000  # what libraries and a step take, where that is not computed
_ADAPTER_GROUP = 32  # Q4_0's; below it, the base's rows are regrouped to it
_ALIGNED = 8  # rows of A, as they stand below the base's
_KV_BLOCK = 128  # tokens by which a row's buffers grow
_MLX_LM_BLOCK = 256  # the same, mlx-lm's
_ROOM = 64  # tokens that a prompt's evaluation leaves room for
# The linear layers of a block that read the same x, and are one product.
_GROUPS = (
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

    def matrix(self, rows: int, columns: int) -> int:
        """Bytes of a weight."""
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
        """Of a Hugging Face config; FormatError for a family, or a value, not known here."""
        try:
            profile = Profile.from_config(config)
            hidden = config.get("n_embd") or config["hidden_size"]
            tied = bool(config.get("tie_word_embeddings", profile.family.name == "gpt2"))
            positions = config["n_positions"] if profile.family.name == "gpt2" else 0
            return cls(profile, hidden, config["vocab_size"], tied, form, positions)
        except (LookupError, TypeError, AttributeError) as error:
            raise FormatError(f"a config without usable shapes: {error}") from error

    @property
    def weight_bytes(self) -> int:
        """All weights."""
        tables = (1 if self.tied else 2) * self.form.matrix(self.vocab, self.hidden)
        linear = sum(self.form.matrix(o, i) for i, o in self.profile.shapes.values())
        return tables + self.profile.num_layers * linear + self._small_bytes

    @property
    def token_bytes(self) -> int:
        """Weights that a decoded token reads: of a table of embeddings alone, one row."""
        return self.weight_bytes - (0 if self.tied else self.form.matrix(self.vocab, self.hidden))

    @property
    def kv_bytes(self) -> int:
        """Keys and values of a token."""
        return self.profile.num_kv_elements * self.form.dtype_bytes

    def adapter_bytes(self, rank: int, packed: bool) -> int:
        """What a program of this rank adds; `packed` if its A is Q4_0 and stays so."""
        groups = (self._group_bytes(group, rank, packed) for group in self._groups())
        return self.profile.num_layers * sum(groups)

    def workspace_bytes(self, tokens: int) -> int:
        """What the widest layer holds while a prompt of so many tokens is evaluated."""
        widths = [sum(self.profile.shapes[m][1] for m in group) for group in self._groups()]
        # x and its norm, the product twice (an adapter adds to it), and what is made of it
        elements = tokens * (2 * self.hidden + 2 * max(widths) + max(widths) // 2)
        return elements * self.form.dtype_bytes + self.scores_bytes(tokens)

    def scores_bytes(self, tokens: int) -> int:
        """Attention's scores and their softmax, where it is not one kernel."""
        held = 0 if self.form.fused else 2 * tokens**2 * self.profile.num_heads
        return held * self.form.dtype_bytes

    def rows_bytes(self, tokens: int) -> int:
        """The buffers of a row that has grown to so many tokens."""
        return -(-tokens // _KV_BLOCK) * _KV_BLOCK * self.kv_bytes

    @property
    def _small_bytes(self) -> int:
        """Norms, biases, positions."""
        profile, layers = self.profile, self.profile.num_layers
        if profile.family.name == "gpt2":
            biases = sum(o for _, o in profile.shapes.values())
            rest = (2 * (2 * layers + 1) + self.num_positions) * self.hidden
            return (rest + layers * biases) * self.form.dtype_bytes
        heads = 2 * self._head_dim if profile.family.name == "qwen3" else 0
        return (layers * (2 * self.hidden + heads) + self.hidden) * self.form.dtype_bytes

    @property
    def _head_dim(self) -> int:
        return self.profile.shapes["q_proj"][1] // self.profile.num_heads

    def _groups(self) -> Iterator[tuple[str, ...]]:
        return (group for group in _GROUPS if group[0] in self.profile.shapes)

    def _group_bytes(self, group: tuple[str, ...], rank: int, packed: bool) -> int:
        d_in = self.profile.shapes[group[0]][0]
        d_outs = [self.profile.shapes[module][1] for module in group]
        width = gcd(*d_outs)
        rows, size = -(-sum(d_outs) // width * rank // _ALIGNED) * _ALIGNED, self.form.dtype_bytes
        bits = self.form.bits
        b = rank * sum(d_outs) * size
        if bits is None or bits < 4 or not packed:
            return rows * d_in * size + b
        below = Form(bits, size, _ADAPTER_GROUP).matrix(rows, d_in)
        regrouped = sum(d_outs) * d_in * 2 * size // _ADAPTER_GROUP
        before = sum(d_outs) * d_in * 2 * size // self.form.group_size
        return below + b + regrouped - before


def peak_bytes(
    sizes: Sizes,
    *,
    num_prompt: int,
    num_decode: int,
    num_prefix: int,
    num_input: int,
    rank: int | None,
    packed: bool,
) -> int:
    """What paw-mlx holds at most while it evaluates and decodes one call at a time.

    First random tokens, then a program: then its prefix is kept beside the row's buffers.
    """
    held = sizes.weight_bytes + (sizes.adapter_bytes(rank, packed) if rank else 0)
    longest = max(num_prompt + max(num_decode, _ROOM), num_prefix + num_input + _ROOM)
    row = sizes.rows_bytes(longest)
    step = max(
        sizes.workspace_bytes(min(num_prompt, 512)),
        num_prefix * sizes.kv_bytes + sizes.workspace_bytes(min(num_prefix, 512)),
    )
    return held + row + step


def mlx_lm_peak_bytes(
    sizes: Sizes, *, num_prompt: int, num_decode: int, num_prefix: int, num_input: int
) -> int:
    """The same of mlx-lm, whose caches grow by 256 and which reads a prompt's 2048 at once."""
    call = num_prefix + num_input
    steps = [mlx_lm_tokens(max(num_prompt + num_decode, call)) * sizes.kv_bytes]
    for tokens in (num_prompt, call):  # the last of them is a step of its own
        kept = mlx_lm_tokens(tokens - 1) * sizes.kv_bytes
        steps.append(kept + sizes.workspace_bytes(min(tokens, 2048)))
    return sizes.weight_bytes + max(steps)


def mlx_lm_tokens(tokens: int) -> int:
    """The tokens that mlx-lm's caches make room for."""
    return -(-tokens // _MLX_LM_BLOCK) * _MLX_LM_BLOCK
