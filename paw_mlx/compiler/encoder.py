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

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np

from ..errors import CompileError, FormatError, listed
from ..formats.checkpoint import ENCODER, CompilerMeta
from ..formats.tensors import Slot, safetensors_index
from ..formats.untrusted import json_object, read_bytes
from ..interpreter.kv import KV
from ..interpreter.models import llama
from ..interpreter.source import Tensors, model_module
from ..interpreter.weights import fill
from . import chat

_MAX_JSON_BYTES = 1 << 24
_EMBEDDING, _NORM = "model.embed_tokens.weight", "model.norm.weight"


class Encoder:
    """A converted compiler's encoder. Holds no weights between calls.

    FormatError if its files are not what convert-compiler writes.
    """

    def __init__(self, compiler: Path) -> None:
        self._folder = compiler / ENCODER
        config = json_object(read_bytes(self._folder / "config.json", _MAX_JSON_BYTES), "config")
        self._args = _args(config)
        self._window = int(config.get("max_position_embeddings") or 0)
        self._files = _files(self._folder, self._args.layers)
        self._tokenizer = chat.load_tokenizer(self._folder)
        self._prefix = self._prefix_tokens(CompilerMeta.read(compiler).prefix_steps)

    @property
    def num_layers(self) -> int:
        return self._args.layers

    def tokens(self, spec: str, pseudo_program: str) -> list[int]:
        """The sequence the compiler was trained on; CompileError if it exceeds the window."""
        content = f"[SPEC]\n{spec}\n[END_SPEC]\n\n[PSEUDO_PROGRAM]"
        turn = chat.render(self._tokenizer, [{"role": "user", "content": content}])
        found = self._encode(turn) + self._encode(pseudo_program)
        tokens = [*found, self._tokenizer.eos_token_id, *self._prefix]
        if self._window and len(tokens) > self._window:
            raise CompileError(
                f"spec and pseudo-program take {len(tokens)} tokens, and the compiler's window "
                f"is {self._window}",
                hint="Shorten them.",
            )
        return tokens

    def hidden(self, sequences: Sequence[Sequence[int]], num_layers: int) -> list[np.ndarray]:
        """The states (L, P, H) of each sequence for an interpreter of `num_layers` layers."""
        teachers = np.array(teacher_layers(self.num_layers, num_layers))
        shape = (num_layers, len(self._prefix), self._args.hidden)
        found = [np.empty(shape, np.float32) for _ in sequences]
        states = [self._embedded(tokens) for tokens in sequences]
        block = llama.Block(self._args)
        for i, tensors in self._layers():
            dtype, _ = fill(block, tensors)
            states = [block(x.astype(dtype), KV(1), 0) for x in states]
            mx.eval(states)
            if i in teachers:
                for kept, x in zip(found, states, strict=True):
                    kept[teachers == i] = self._taken(x, i)
        mx.clear_cache()
        return found

    def _taken(self, x: mx.array, i: int) -> np.ndarray:
        """What the mapper sees of layer i's output: the prefix tokens, (P, H)."""
        states = x[0, -len(self._prefix) :]
        if i == self.num_layers - 1:
            states = mx.fast.rms_norm(states, self._norm().astype(x.dtype), self._args.eps)
        return np.array(states.astype(mx.float32))

    def _layers(self) -> Iterator[tuple[int, Tensors]]:
        """Each layer's tensors; the next are being read while one is used."""
        ahead = self._layer(0)
        for i in range(self.num_layers):
            tensors, ahead = ahead, self._layer(i + 1) if i + 1 < self.num_layers else {}
            mx.async_eval(list(ahead.values()))
            yield i, tensors

    def _layer(self, i: int) -> Tensors:
        prefix = f"model.layers.{i}."
        try:
            loaded = cast(Tensors, mx.load(str(self._files[i])))
        except RuntimeError as error:
            raise FormatError(f"{self._files[i]} is damaged: {error}") from error
        return {n.removeprefix(prefix): t for n, t in loaded.items() if n.startswith(prefix)}

    def _embedded(self, tokens: Sequence[int]) -> mx.array:
        """Rows of the embedding, (1, T, H), read where they lie."""
        path, slot = self._slot(_EMBEDDING, (self._args.vocab, self._args.hidden))
        rows = np.memmap(path, np.uint8, "r", slot.start, (self._args.vocab, slot.row_bytes))
        return _as_mlx(np.array(rows[list(tokens)]), slot)[None]

    def _norm(self) -> mx.array:
        path, slot = self._slot(_NORM, (self._args.hidden,))
        return _as_mlx(np.fromfile(path, np.uint8, slot.num_bytes, offset=slot.start), slot)

    def _slot(self, name: str, shape: tuple[int, ...]) -> tuple[Path, Slot]:
        path = self._files[-1]
        slot = safetensors_index(path).get(name)
        if slot is None or slot.shape != shape or slot.dtype not in _MLX:
            raise FormatError(
                f"{path} has no {name} of shape {shape} in {listed(list(_MLX))}",
                hint="Convert the compiler again: paw-mlx convert-compiler.",
            )
        return path, slot

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _prefix_tokens(self, steps: int) -> list[int]:
        names = [f"<prefix_{i}>" for i in range(1, steps + 1)]
        ids = [self._encode(name) for name in names]
        if lacking := [name for name, found in zip(names, ids, strict=True) if len(found) != 1]:
            raise FormatError(f"the compiler's tokenizer has no {listed(lacking)}")
        return [found[0] for found in ids]


def teacher_layers(num_encoder: int, num_interpreter: int) -> list[int]:
    """The encoder's layer for each layer of the interpreter; the last for the last."""
    return [
        max((layer + 1) * num_encoder // num_interpreter - 1, 0) for layer in range(num_interpreter)
    ]


_MLX = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}


def _as_mlx(data: np.ndarray, slot: Slot) -> mx.array:
    """Bytes (..., bytes of a row) as the array that a safetensors slot describes."""
    kind = np.uint32 if slot.dtype == "F32" else np.uint16
    return mx.array(np.ascontiguousarray(data).view(kind)).view(_MLX[slot.dtype])


def _args(config: dict[str, Any]) -> llama.Args:
    module = model_module(config)
    if not issubclass(module.Args, llama.Args):
        raise FormatError(f"model_type {config['model_type']!r} is no encoder")
    try:
        args: llama.Args = module.Args.from_config(config)
    except KeyError as error:
        raise FormatError(f"the encoder's config lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise FormatError(f"the encoder's config is malformed: {error}") from error
    return args


def _files(folder: Path, num_layers: int) -> list[Path]:
    """The file of each layer, and last that of the embedding and the final norm."""
    path = folder / "model.safetensors.index.json"
    homes = json_object(read_bytes(path, _MAX_JSON_BYTES), path.name).get("weight_map")
    wanted = [f"model.layers.{i}.input_layernorm.weight" for i in range(num_layers)]
    found = [homes.get(n) if isinstance(homes, dict) else None for n in [*wanted, _EMBEDDING]]
    if not all(isinstance(name, str) and Path(name).name == name for name in found):
        raise FormatError(f"{path} does not name the files of {num_layers} layers")
    return [folder / str(name) for name in found]
