"""A compiler's folder: where its parts lie, and what its meta.json says.

meta.json             the numbers that steer a compile; nothing about them is assumed
compiler/             the encoder, in Hugging Face's layout, or
encoder.safetensors   what was trained of a base that is the encoder, if anything was
lora_mapper.pt        the mapper as published, or
mapper.safetensors    the mapper converted, float32; or trained here, float32 or float16

Two styles. `minimal`, the published one: the encoder reads the spec and a pseudo-program that a
chat model wrote, and its states are those of the prefix tokens. `spec`: the encoder is a base
(`encoder_model`), it reads the spec alone, the pseudo-program is the spec as it stands, and without
prefix tokens the states are those of all tokens.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FormatError, listed
from .fingerprint import fingerprint
from .untrusted import json_object, number, read_bytes, shown, string

META, ENCODER = "meta.json", "compiler"
PUBLISHED_MAPPER, MAPPER = "lora_mapper.pt", "mapper.safetensors"
TRAINED_ENCODER = "encoder.safetensors"
CONVERTED = "paw_mlx"  # the key of meta.json under which a conversion or training records itself
PUBLISHED, SPEC = STYLES = "minimal", "spec"
_MAX_META_BYTES = 1 << 20
_MAX_TEXT_BYTES = 64 << 20
_MAX_SIZE = 1 << 16

Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by name


@dataclass(frozen=True)
class Checkpoint:
    """A compiler's folder, and what its meta.json fixes. `record` is the whole of it, as read.

    `encoder` is the base that reads specs, and empty where the folder holds an encoder; it carries
    a LoRA of `encoder_rank`, or none of 0. Read it once and hand it on: whoever makes one program
    then speaks of one compiler.
    """

    folder: Path
    interpreter: str
    rank: int
    alpha: float
    num_bases: int
    prefix_steps: int
    encoder: str
    encoder_rank: int
    record: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """Read a compiler's meta.json; FormatError, with the key, for what is absent or odd."""
        record = json_object(read_bytes(folder / META, _MAX_META_BYTES), META)
        interpreter = string(_value(record, "interpreter_model"), "interpreter_model")
        style = _value(record, "compiler_prompt_style")
        if not interpreter or style not in STYLES:
            raise FormatError(
                f"{META} gives interpreter_model {shown(interpreter)} and compiler_prompt_style "
                f"{shown(style)}; the known styles are {listed(list(STYLES))}"
            )
        own = style == SPEC
        return cls(
            folder=folder,
            interpreter=interpreter,
            rank=_size(record, "lora_rank"),
            alpha=number(_value(record, "lora_alpha"), "lora_alpha"),
            num_bases=_size(record, "lora_num_bases"),
            prefix_steps=_size(record, "prefix_steps", least=0 if own else 1),
            encoder=string(_value(record, "encoder_model"), "encoder_model") if own else "",
            encoder_rank=_size(record, "encoder_rank", least=0) if own else 0,
            record=record,
        )

    @property
    def conversion(self) -> Mapping[str, Any] | None:
        """What the conversion or training recorded of itself, or None as published."""
        found = self.record.get(CONVERTED)
        return found if isinstance(found, dict) else None


def compiler_fingerprint(compiler: Checkpoint) -> str:
    """Return the fingerprint (64 hex) of a converted compiler: weights, meta.json, tokenizer."""
    folder = compiler.folder
    record = {k: v for k, v in compiler.record.items() if k != CONVERTED}
    digest = hashlib.sha256(fingerprint(folder).encode())
    digest.update(json.dumps(record, sort_keys=True).encode())
    for name in () if compiler.encoder else ("tokenizer.json", "tokenizer_config.json"):
        digest.update(hashlib.sha256(read_bytes(folder / ENCODER / name, _MAX_TEXT_BYTES)).digest())
    return digest.hexdigest()


def read_converted(folder: Path) -> Checkpoint | None:
    """Read a folder that holds a converted compiler, whole; None for another."""
    if not ((folder / MAPPER).is_file() and (folder / META).is_file()):
        return None
    found = Checkpoint.read(folder)
    return found if found.conversion else None


@dataclass(frozen=True)
class MapperSizes:
    """What a mapper is made for. `modules` are sorted by name and have their (d_in, d_out)."""

    hidden_size: int
    trunk_size: int
    num_layers: int
    modules: Mapping[str, tuple[int, int]]
    num_bases: int
    rank: int

    @property
    def coefficients(self) -> tuple[int, int, int, int]:
        """The shape of its coefficients: (layers, modules, bases, A and B)."""
        return self.num_layers, len(self.modules), self.num_bases, 2

    @property
    def num_coefficients(self) -> int:
        return math.prod(self.coefficients)


def check_mapper(shapes: Shapes, meta: Mapping[str, Any]) -> MapperSizes:
    """Return what a mapper of such tensors is made for.

    FormatError unless names and shapes are those that meta.json calls for.
    """
    rank, bases = meta["lora_rank"], meta["lora_num_bases"]
    modules = sorted({name[8:] for name in shapes if re.match("[AB]_bases_.", name)})

    def size(name: str, axis: int) -> int:
        return dict(enumerate(shapes.get(name, ()))).get(axis, 0)

    hidden, trunk = size("trunk.0.weight", 1), size("trunk.0.bias", 0)
    rows = size("coeff_head.bias", 0)
    wanted: dict[str, tuple[int, ...]] = {
        "trunk.0.weight": (trunk, hidden),
        "trunk.0.bias": (trunk,),
        "coeff_head.weight": (rows, trunk),
        "coeff_head.bias": (rows,),
    }
    for module in modules:
        wanted[f"A_bases_{module}"] = (bases, rank, size(f"A_bases_{module}", 2))
        wanted[f"B_bases_{module}"] = (bases, size(f"B_bases_{module}", 1), rank)
    check_fit(misfits(wanted, shapes), "mapper")
    if not modules or rows % (len(modules) * bases * 2):
        raise FormatError(
            f"the mapper gives {rows} coefficients, which is no whole number of layers "
            f"of {len(modules)} modules, {bases} bases and 2 matrices"
        )
    return MapperSizes(
        hidden_size=hidden,
        trunk_size=trunk,
        num_layers=rows // (len(modules) * bases * 2),
        modules={m: (shapes[f"A_bases_{m}"][2], shapes[f"B_bases_{m}"][1]) for m in modules},
        num_bases=bases,
        rank=rank,
    )


def misfits(wanted: Shapes, found: Shapes) -> Iterator[str]:
    """Yield what is wrong with the tensors found, a few words each."""
    yield from (f"{name} is missing" for name in wanted if name not in found)
    for name, shape in found.items():
        if name not in wanted:
            yield f"{shown(name)} is unknown"
        elif 0 in shape:
            yield f"{name} is empty"
        elif tuple(shape) != wanted[name]:
            yield f"{name} is {tuple(shape)}, not {wanted[name]}"


def check_fit(problems: Iterable[str], whose: str) -> None:
    """Raise FormatError if there are problems with the tensors of a part of the compiler."""
    found = list(problems)
    if found:
        what = "1 tensor does" if len(found) == 1 else f"{len(found)} tensors do"
        raise FormatError(f"{what} not fit in the {whose}: {listed(found)}")


def _value(record: Mapping[str, Any], key: str) -> Any:
    if key not in record:
        raise FormatError(f"{META} of the compiler lacks {key}")
    return record[key]


def _size(record: Mapping[str, Any], key: str, least: int = 1) -> int:
    value = _value(record, key)
    if type(value) is not int or not least <= value <= _MAX_SIZE:
        raise FormatError(f"{META} of the compiler gives {key} as {shown(value)}, which is no size")
    return value
