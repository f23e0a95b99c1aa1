"""The encoder: one forward pass of the trained compiler, streamed from its files.

    tokens    (T,)       chat(spec), the pseudo-program, EOS, the P prefix tokens
    hidden    (L, P, H)  float32; layer l of the interpreter gets the encoder's layer t(l)
    t(l) = (l + 1) * num_layers // L - 1: as it leaves the block, but the last layer after
    the model's final norm

A compile needs every layer once. So none is kept: it is read, used for all sequences, and
dropped while the next is on its way. The peak is two layers at any size of the model, and
the embedding, of which a few hundred rows are wanted, is never loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..device import claim
from ..errors import CompileError, FormatError, listed
from ..formats.checkpoint import ENCODER, Checkpoint
from ..formats.tensors import Slot, safetensors_index
from ..formats.untrusted import json_object, read_bytes
from ..interpreter.base.tensors import Tensors, load_tensors
from ..interpreter.engine.kv import KV
from ..interpreter.models import encoder_args, llama
from ..interpreter.models.elementwise import Rotation
from ..interpreter.models.load import fill
from . import chat

_MAX_JSON_BYTES = 1 << 24
_EMBEDDING, _NORM = "model.embed_tokens.weight", "model.norm.weight"


class Encoder:
    """A converted compiler's encoder. Holds no weights between calls.

    FormatError if its files are not what convert-compiler writes.
    """

    def __init__(self, compiler: Checkpoint) -> None:
        self._folder = compiler.folder / ENCODER
        config = self._read_json("config.json")
        self._args = encoder_args(config)
        self._rotation = Rotation(self._args.head_dim, self._args.theta)
        self._window = config["max_position_embeddings"]
        self._files = self._find_files(self._args.layers)
        self._tokenizer = chat.load_tokenizer(self._folder)
        steps = range(1, compiler.prefix_steps + 1)
        self._prefix = self._ids([f"<prefix_{i}>" for i in steps])
        self._eos = self._ids([self._eos_token()])

    @property
    def num_layers(self) -> int:
        return self._args.layers

    @property
    def hidden_size(self) -> int:
        return self._args.hidden

    def tokens(self, spec: str, pseudo_program: str) -> list[int]:
        """Return the sequence the compiler was trained on; CompileError if it exceeds the window.

        A control token in the author's own text is plain text, and ends nothing.
        """
        content = f"[SPEC]\n{spec}\n[END_SPEC]\n\n[PSEUDO_PROGRAM]"
        turn = chat.encode(self._tokenizer, [{"role": "user", "content": content}])
        pseudo = chat.encode_text(self._tokenizer, pseudo_program, control=False)
        tokens = [*turn, *pseudo, *self._eos, *self._prefix]
        if len(tokens) > self._window:
            raise CompileError(
                f"spec and pseudo-program take {len(tokens)} tokens, and the compiler's window "
                f"is {self._window}",
                hint="Shorten them.",
            )
        return tokens

    def hidden(self, sequences: Sequence[Sequence[int]], num_layers: int) -> list[np.ndarray]:
        """Compute the states (L, P, H) of each sequence for an interpreter of `num_layers`."""
        claim()
        teachers = np.array(teacher_layers(self.num_layers, num_layers))
        shape = (num_layers, len(self._prefix), self._args.hidden)
        found = [np.empty(shape, np.float32) for _ in sequences]
        states = [self._embed(tokens) for tokens in sequences]
        for i, tensors in self._read_layers():
            block = llama.Block(self._args)  # its weights are lazy, and never made
            dtype, _ = fill(block, tensors)
            block.fuse(i, copied=False)
            for n, x in enumerate(states):
                kv, T = KV(1), x.shape[1]
                turns = self._rotation.turns(kv.positions(T))
                states[n] = block(x.astype(dtype), kv, 0, kv.mask(T), turns)  # (1, T, H)
            mx.eval(states)
            if i in teachers:
                for kept, x in zip(found, states, strict=True):
                    kept[teachers == i] = self._take_prefix(x, i)
        mx.clear_cache()
        return found

    def _take_prefix(self, x: mx.array, i: int) -> np.ndarray:
        """Return what the mapper sees of layer i's output: the prefix tokens, (P, H)."""
        states = x[0, -len(self._prefix) :]
        if i == self.num_layers - 1:
            path, slot = self._find_slot(_NORM, (self._args.hidden,))
            norm = np.fromfile(path, np.uint8, slot.num_bytes, offset=slot.start)
            weight = _to_mlx(norm, slot).astype(x.dtype)
            states = mx.fast.rms_norm(states, weight, self._args.eps)
        return np.array(states.astype(mx.float32))

    def _read_layers(self) -> Iterator[tuple[int, Tensors]]:
        """Yield each layer's tensors; the next are being read while one is used."""
        ahead = self._load_layer(0)
        for i in range(self.num_layers):
            tensors, ahead = ahead, self._load_layer(i + 1) if i + 1 < self.num_layers else {}
            mx.async_eval(list(ahead.values()))
            yield i, tensors

    def _load_layer(self, i: int) -> Tensors:
        prefix = f"model.layers.{i}."
        loaded = load_tensors(self._files[i])
        return {n.removeprefix(prefix): t for n, t in loaded.items() if n.startswith(prefix)}

    def _embed(self, tokens: Sequence[int]) -> mx.array:
        """Read rows of the embedding, (1, T, H), where they lie."""
        path, slot = self._find_slot(_EMBEDDING, (self._args.vocab, self._args.hidden))
        rows = np.memmap(path, np.uint8, "r", slot.start, (self._args.vocab, slot.row_bytes))
        return _to_mlx(np.array(rows[list(tokens)]), slot)[None]

    def _find_slot(self, name: str, shape: tuple[int, ...]) -> tuple[Path, Slot]:
        path = self._files[-1]
        slot = safetensors_index(path).get(name)
        if slot is None or slot.shape != shape or slot.dtype not in _MLX:
            raise FormatError(
                f"{path} has no {name} of shape {shape} in {listed(list(_MLX))}",
                hint="Convert the compiler again: paw-mlx convert-compiler.",
            )
        return path, slot

    def _ids(self, tokens: Sequence[str]) -> list[int]:
        ids = [chat.encode_text(self._tokenizer, token, control=True) for token in tokens]
        if lacking := [t for t, found in zip(tokens, ids, strict=True) if len(found) != 1]:
            raise FormatError(f"the compiler's tokenizer has no {listed(lacking)}")
        return [found[0] for found in ids]

    def _eos_token(self) -> str:
        """Return the token that ends a text, as the files say: a library's default is another."""
        eos = self._read_json("tokenizer_config.json").get("eos_token")
        eos = eos.get("content") if isinstance(eos, dict) else eos
        if not isinstance(eos, str):
            raise FormatError("the compiler's tokenizer_config.json names no eos_token")
        return eos

    def _find_files(self, num_layers: int) -> list[Path]:
        """Find the file of each layer, and last that of the embedding and the final norm."""
        index = "model.safetensors.index.json"
        homes = self._read_json(index).get("weight_map")
        homes = homes if isinstance(homes, dict) else {}
        wanted = [f"model.layers.{i}.input_layernorm.weight" for i in range(num_layers)]
        found = [homes.get(name) for name in (*wanted, _EMBEDDING)]
        if not all(isinstance(n, str) and re.fullmatch(r"[\w.-]+\.safetensors", n) for n in found):
            raise FormatError(f"the compiler's {index} does not name files of {num_layers} layers")
        return [self._folder / str(name) for name in found]

    def _read_json(self, name: str) -> dict[str, Any]:
        return json_object(read_bytes(self._folder / name, _MAX_JSON_BYTES), name)


def teacher_layers(num_encoder: int, num_interpreter: int) -> list[int]:
    """Return the encoder's layer for each layer of the interpreter; the last for the last."""
    return [
        max((layer + 1) * num_encoder // num_interpreter - 1, 0) for layer in range(num_interpreter)
    ]


_MLX = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}


def _to_mlx(data: np.ndarray, slot: Slot) -> mx.array:
    """Return bytes (..., bytes of a row) as the array that a safetensors slot describes."""
    kind = np.uint32 if slot.dtype == "F32" else np.uint16
    return mx.array(np.ascontiguousarray(data).view(kind)).view(_MLX[slot.dtype])
