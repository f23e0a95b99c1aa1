"""A published compiler becomes an MLX compiler: laid out by layer, quantized, no pickle left.

    compiler/*.safetensors  ->  compiler/model-00000-of-<L>  embedding and final norm, as they came
                                compiler/model-<i+1>-of-<L>  layer i: 2-D weights packed, norms not
    lora_mapper.pt          ->  mapper.safetensors           the same names, float32

Memory stays at about one layer, then at one tensor of the mapper. Finished files wait in
`.<name>.partial` beside the folder to be, where an interrupted conversion goes on. An output
head is left out: the encoder makes no logits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from paw_mlx import settings
from paw_mlx.convert.mapper import convert_mapper
from paw_mlx.convert.upstream import Upstream, read_upstream
from paw_mlx.errors import FormatError, NotFound, OptionError, listed
from paw_mlx.files import replacing
from paw_mlx.formats.checkpoint import (
    CONVERTED,
    ENCODER,
    MAPPER,
    META,
    PUBLISHED_MAPPER,
    read_converted,
)
from paw_mlx.formats.tensors import safetensors_index
from paw_mlx.interpreter.base.packing import PACKED_BITS, PARTS
from paw_mlx.interpreter.base.tensors import load_tensors, save_tensors
from paw_mlx.locks import locked
from paw_mlx.progress import Progress, advance, quiet

BITS, GROUP_SIZE = (*PACKED_BITS, 16, 32), 64
_STAMP = ".stamp"


def convert_compiler(source: Path, out: Path, *, bits: int = 8, progress: Progress = quiet) -> Path:
    """Convert the published compiler in the folder `source` into the new folder `out`.

    `bits`: 4, 6 or 8 pack the layers' weights, 16 keeps everything as it came, 32 makes it
    float32. Goes on where an interrupted conversion stopped; what is done already is returned
    at once. Nothing is written before names, shapes and meta.json have been checked. NotFound
    or FormatError for the source, OptionError, DiskError for the disk.
    """
    if bits not in BITS:
        raise OptionError(f"bits must be one of 4, 6, 8, 16 or 32, not {bits}")
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise NotFound(f"{source} is no folder, and a compiler is one")
    if read_converted(source):
        raise OptionError(
            f"{source} is converted already",
            hint="Use it as it is, or convert the compiler that it came from.",
        )
    upstream = read_upstream(source)
    _check_widths(upstream, bits)
    stamp = upstream.stamp(bits, GROUP_SIZE)
    if _is_done(out, stamp, upstream, bits):
        return out
    partial = out.with_name(f".{out.name}.partial")
    # Not beside `out`: a lock may not be removed while others wait for it, and would stay.
    key = hashlib.sha256(str(out.absolute()).encode()).hexdigest()[:16]
    with locked(settings.cache_dir() / "locks" / f"{key}.lock"):
        if not _is_done(out, stamp, upstream, bits):  # by whoever held the lock before
            _sweep(partial, stamp)
            _write_weights(upstream, partial, bits, progress)
            _write_texts(upstream, partial, bits, stamp)
            partial.rename(out)
            (out / _STAMP).unlink()
    return out


def stamp_of(source: Path, bits: int) -> str:
    """Return one hash (64 hex) of a published compiler and what is made of it."""
    return read_upstream(source).stamp(bits, GROUP_SIZE)


def _check_widths(upstream: Upstream, bits: int) -> None:
    wrong = [
        f"{name} is {shape[-1]} wide"
        for name, shape in upstream.shapes.items()
        if _is_packed(name, shape, bits) and shape[-1] % GROUP_SIZE
    ]
    if wrong:
        raise OptionError(
            f"{bits} bits pack groups of {GROUP_SIZE} weights, and {listed(wrong)}",
            hint="Convert to 16 bits instead.",
        )


def _is_packed(name: str, shape: tuple[int, ...], bits: int) -> bool:
    return bits in PACKED_BITS and name.startswith("model.layers.") and len(shape) == 2


def _is_done(out: Path, stamp: str, upstream: Upstream, bits: int) -> bool:
    if not out.exists() and not out.is_symlink():
        return False
    made = read_converted(out)
    if made is None or (made.conversion or {}).get("stamp") != stamp:
        raise OptionError(
            f"{out} exists, and is no conversion of {upstream.name} to {bits} bits",
            hint="Name a new folder, or remove that one.",
        )
    return True


def _sweep(partial: Path, stamp: str) -> None:
    """Keep what the same conversion finished; sweep what another, or a killed one, left."""
    mark = partial / _STAMP
    if partial.exists() and not (mark.is_file() and mark.read_text() == stamp):
        shutil.rmtree(partial)
    for left in [path for path in partial.rglob(".*") if path.is_dir()]:
        shutil.rmtree(left)
    _write(mark, stamp.encode())


def _write_weights(upstream: Upstream, partial: Path, bits: int, progress: Progress) -> None:
    """Write the mapper and every shard that is not there yet, one at a time."""
    shards = list(zip(_shard_paths(upstream, partial), upstream.layers(), strict=True))
    there = sum(path.exists() for path, _ in shards)
    kept = f"; {there} of {len(shards)} files are there" if there else ""
    progress(f"converting {upstream.name} to {bits} bits{kept}")
    if not (partial / MAPPER).exists():
        progress("converting the mapper")
        convert_mapper(upstream.path / PUBLISHED_MAPPER, partial / MAPPER, upstream.meta)
    for i, (path, names) in enumerate(shards):
        if path.exists():
            continue
        of = f"layer {i} of {upstream.num_layers}" if i else "the embedding"
        advance(progress, i, len(shards), f"converting {of}")
        tensors = _make_shard(upstream, names, bits)
        save_tensors(path, tensors, {"format": "mlx"})
        del tensors  # before the next are made
        mx.clear_cache()
    advance(progress, len(shards), len(shards))


def _shard_paths(upstream: Upstream, folder: Path) -> list[Path]:
    """Return the file of the embedding, then that of each layer."""
    last = upstream.num_layers
    names = [f"model-{i:05d}-of-{last:05d}.safetensors" for i in range(last + 1)]
    return [folder / ENCODER / name for name in names]


def _make_shard(upstream: Upstream, names: list[str], bits: int) -> dict[str, mx.array]:
    """Make the named tensors as they are to be written, evaluated; their sources are let go."""
    opened = {file: load_tensors(file) for file in {upstream.files[name] for name in names}}
    made: dict[str, mx.array] = {}
    for name in names:
        # Popped: an array that stays in the dictionary stays in memory once it is evaluated.
        made |= _convert_tensor(name, opened[upstream.files[name]].pop(name), bits)
    return made


def _convert_tensor(name: str, tensor: mx.array, bits: int) -> dict[str, mx.array]:
    """Return what is to be written of a tensor: it, or its packed parts; FormatError for NaN."""
    made = {name: tensor.astype(mx.float32) if bits == 32 else tensor}
    if _is_packed(name, tensor.shape, bits):
        parts = mx.quantize(tensor, group_size=GROUP_SIZE, bits=bits)
        stem = name.removesuffix("weight")
        made = {stem + part: array for part, array in zip(PARTS, parts, strict=True)}
    floats = [tensor, *(array for array in made.values() if array.dtype != mx.uint32)]
    # NaN passes through max and min, and they take no memory, as isfinite of all would.
    ends = [end.astype(mx.float32) for array in floats for end in (array.max(), array.min())]
    try:
        mx.eval(made, ends)
    except RuntimeError as error:
        raise FormatError(f"the encoder's weights are damaged: {error}") from error
    if not mx.isfinite(mx.stack(ends)).all():
        raise FormatError(f"the encoder's {name} holds values that are not finite")
    return made


def _write_texts(upstream: Upstream, partial: Path, bits: int, stamp: str) -> None:
    """Write all that is small: the index, the configs, the tokenizer; meta.json comes last."""
    folder, weight_map, num_bytes = partial / ENCODER, {}, 0
    for path in _shard_paths(upstream, partial):
        for name, slot in safetensors_index(path).items():
            weight_map[name] = path.name
            num_bytes += slot.num_bytes
    # No head is written, so whoever loads this as a language model has to tie it.
    config = upstream.config | {"tie_word_embeddings": True}
    if bits in PACKED_BITS:
        config |= {"quantization": {"group_size": GROUP_SIZE, "bits": bits}}
    index = {"metadata": {"total_size": num_bytes}, "weight_map": weight_map}
    made = {"bits": bits, "group_size": GROUP_SIZE, "source": upstream.name, "stamp": stamp}
    for name, data in upstream.texts.items():
        _write(folder / name, data)
    _write_json(folder / "model.safetensors.index.json", index)
    _write_json(folder / "config.json", config)
    _write_json(partial / META, {**upstream.meta, CONVERTED: made})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write(path, json.dumps(value, indent=2, ensure_ascii=False).encode())


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)
