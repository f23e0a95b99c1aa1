"""A base as the encoder of a compiler: it reads the spec, and no model is there for that alone.

    tokens   (T,)        [SPEC] spec [END_SPEC]; P prefix tokens follow, embeddings of their own
    states   (L, P, H)   of the prefix tokens; (L, T, H) of all tokens where there are none

The layers are those of `encoder.teacher_layers`. `SpecReader` holds the base it reads with, and is
differentiable: by what the base carries (`lora.attach`), and by the prefix. `BaseEncoder` is a
converted compiler's, and loads the base for a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np

from ..adapter import Site
from ..errors import CompileError, FormatError
from ..formats.checkpoint import TRAINED_ENCODER, Checkpoint, check_fit, misfits
from ..formats.tensors import safetensors_index
from ..interpreter.adapters import lora
from ..interpreter.adapters.parallel import blocks_of
from ..interpreter.base.tensors import load_tensors
from ..interpreter.base.tokenizer import Tokenizer
from ..interpreter.engine.kv import KV
from ..interpreter.models import llama
from ..interpreter.models.elementwise import Rotation
from ..interpreter.models.load import Base, load_base
from ..profiles import Profile
from .encoder import teacher_layers
from .target import Target

PREFIX = "prefix_tokens"  # (P, H)
_LORA = "lora."  # then a site, and `.a` (d_in, r) or `.b` (r, d_out), the scale folded in


def encode_spec(tokenizer: Tokenizer, spec: str) -> list[int]:
    """Return the tokens of a spec, as the encoder reads it."""
    head = tokenizer.encode("[SPEC]\n", control=True)
    return [*head, *tokenizer.encode_input(spec, "\n[END_SPEC]")]


class SpecReader:
    """Reads specs with a base in memory; FormatError unless it is of Llama's kind."""

    def __init__(self, base: Base, num_layers: int) -> None:
        """Take the base, and the number of the interpreter's layers."""
        if not isinstance(base.model, llama.Model):
            raise FormatError(f"{base.profile.name} cannot be the encoder: it is not Llama's kind")
        args = base.model.args
        self.base, self.hidden_size = base, args.hidden
        self._rotation = Rotation(args.head_dim, args.theta)
        self._teachers, self.num_teachers = teacher_layers(args.layers, num_layers), num_layers

    def states(self, tokens: Sequence[int], prefix: mx.array | None = None) -> mx.array:
        """Compute the states (L, P, H), float32, of the prefix (P, H), or without one of all."""
        model, num_prefix = cast(llama.Model, self.base.model).model, 0
        x = model.embed_tokens(mx.array([tokens]))  # (1, T, H)
        if prefix is not None:
            num_prefix = len(prefix)
            x = mx.concatenate([x, prefix[None].astype(x.dtype)], axis=1)
        turns, found = self._rotation.turns(mx.arange(x.shape[1])), []
        for block in blocks_of(self.base.model, self.base.profile):
            x = block(x, KV(1), 0, "causal", turns)
            found.append(x)
        found[-1] = model.norm(x)
        return mx.stack([found[t][0, -num_prefix:] for t in self._teachers]).astype(mx.float32)


class BaseEncoder:
    """The encoder of a compiler that reads specs with a base. Holds no weights between calls.

    FormatError for a file of what was trained that does not fit the base.
    """

    def __init__(self, compiler: Checkpoint, path: Path) -> None:
        self._path, self._target = path, Target.read(path)
        self._trained = _read_trained(compiler, self._target.profile)
        self._num_prefix = compiler.prefix_steps

    @property
    def hidden_size(self) -> int:
        return self._target.profile.shapes["q_proj"][0]

    def tokens(self, spec: str, pseudo_program: str) -> list[int]:
        """Return a spec's tokens; CompileError if they exceed the base's window."""
        tokens, window = encode_spec(self._target.tokenizer, spec), self._target.window
        if (num_tokens := len(tokens) + self._num_prefix) > window:
            raise CompileError(
                f"the spec takes {num_tokens} tokens, and the window of the encoder is {window}",
                hint="Shorten it.",
            )
        return tokens

    def hidden(self, sequences: Sequence[Sequence[int]], num_layers: int) -> list[np.ndarray]:
        """Compute the states (L, P, H) of each sequence for an interpreter of `num_layers`."""
        base = load_base(self._path)
        lora.attach(base.groups, encoder_pairs(self._trained, base))
        reader, prefix = SpecReader(base, num_layers), self._trained.get(PREFIX)
        found = [np.array(reader.states(tokens, prefix)) for tokens in sequences]
        del base, reader
        mx.clear_cache()
        return found


def encoder_arrays(profile: Profile, rank: int) -> dict[str, tuple[int, ...]]:
    """Return the arrays of an encoder's LoRA and their shapes."""
    shapes: dict[str, tuple[int, ...]] = {}
    for site in profile.sites():
        d_in, d_out = profile.shapes[site.module]
        shapes |= {f"{_LORA}{site}.a": (d_in, rank), f"{_LORA}{site}.b": (rank, d_out)}
    return shapes


def encoder_pairs(arrays: dict[str, mx.array], base: Base) -> dict[Site, lora.Pair]:
    """Return the pairs of an encoder's LoRA, in the base's dtype; none if it has none."""
    found = {}
    for site in base.profile.sites():
        a, b = (arrays.get(f"{_LORA}{site}.{part}") for part in "ab")
        if a is not None and b is not None:
            found[site] = a.astype(base.dtype), b.astype(base.dtype)
    return found


def _read_trained(compiler: Checkpoint, profile: Profile) -> dict[str, mx.array]:
    """Read what was trained of the encoder: nothing, prefix tokens, a LoRA, or both."""
    file = compiler.folder / TRAINED_ENCODER
    wanted: dict[str, tuple[int, ...]] = {}
    if compiler.prefix_steps:
        wanted[PREFIX] = compiler.prefix_steps, profile.shapes["q_proj"][0]
    if rank := compiler.encoder_rank:
        wanted |= encoder_arrays(profile, rank)
    if not wanted:
        return {}
    found = {name: slot.shape for name, slot in safetensors_index(file).items()}
    check_fit(misfits(wanted, found), "encoder")
    return load_tensors(file)
