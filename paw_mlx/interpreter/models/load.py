"""A base in memory: as stored, dense, or quantized on load; made one layer at a time.

Without a GPU float32 is the fast path, and a base is made dense unless bits are asked for.
With one it runs in 16 bits, and what a GGUF file has in blocks that MLX lacks (K-quants) runs
in 8 bits and groups of 32. What was quantized is kept on disk and found again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn

from ... import settings
from ...device import claim, on_gpu, wire_memory
from ...errors import DiskError, FormatError, OptionError
from ...families import Family
from ...files import find_files, replacing
from ...formats.fingerprint import base_fingerprint, fingerprint
from ...locks import locked
from ...profiles import Profile
from ...progress import Progress, quiet
from ..adapters.parallel import Parallel, fuse
from ..base.gguf import read_gguf_base
from ..base.packing import (
    PACKED_BITS,
    Packing,
    check_group_size,
    dense_shapes,
    infer_packing,
    is_matrix,
    unpack,
)
from ..base.read import read_source
from ..base.source import Source, by_layer
from ..base.tensors import Tensors, check_fit, evaluate, shapes_of, weight_dtype
from ..base.tokenizer import Tokenizer
from ..base.write import write_base
from . import make_model
from .decoder import Decoder

_CONFIG_BYTES = 1 << 16
_DECODED = {"group_size": 32, "bits": 8}  # finer than the steps of any type that is decoded


@dataclass(frozen=True, eq=False)
class Base:
    """A base ready to run.

    `window` counts tokens; `eos` are the ids that end an output, `end` the one to train on.
    `groups` are the model's linear layers, in the order they run, where adapters go.
    `path` is where it was read from, also where a quantized copy of it runs; `form` says how
    its weights are held (`bfloat16, 4-bit g64`).
    """

    path: Path
    model: Decoder = field(repr=False)
    groups: list[Parallel] = field(repr=False)
    tokenizer: Tokenizer
    profile: Profile
    window: int
    eos: frozenset[int]
    end: int
    dtype: mx.Dtype
    form: str
    nbytes: int

    @cached_property
    def fingerprint(self) -> str:
        """Which weights these are; read when first asked for, since a GGUF takes 40 ms."""
        return base_fingerprint(self.path)

    @cached_property
    def identity(self) -> str:
        """Which weights and config these are, whatever they were converted from."""
        config = self.path if self.path.is_file() else self.path / "config.json"
        with config.open("rb") as file:
            head = file.read(_CONFIG_BYTES)  # a GGUF begins with its settings
        own = self.fingerprint if self.path.is_file() else fingerprint(self.path)
        return f"{own} {hashlib.sha256(head).hexdigest()}"


def load_base(
    path: Path,
    *,
    bits: int | None = None,
    group_size: int = 64,
    trainable: bool = False,
    progress: Progress = quiet,
) -> Base:
    """Load a base from a directory or GGUF file; `Interpreter.load` says what `bits` does.

    `trainable` makes it dense, as gradients want it: float32, or bfloat16 on a GPU.

    Raises NotFound, FormatError (with the tensors that are wrong), OptionError, or ClosedError
    in a process that was forked from one that computes.
    """
    claim()
    wire_memory()
    if bits not in (None, 16, *PACKED_BITS):
        raise OptionError(f"bits must be one of 4, 6, 8 or 16, not {bits}")
    check_group_size(group_size)
    if trainable:
        dtype = mx.bfloat16 if on_gpu() else mx.float32
        return _build(path, read_source(path), packed=False, dtype=dtype)
    if bits not in PACKED_BITS:
        packed = bits is None and on_gpu()
        source = _read_decoded(path, progress) if packed else read_source(path)
        return _build(path, source, packed=packed)
    kept = _place(path, f"{bits}bit-g{group_size}")
    if not kept.exists():
        progress(f"quantizing {path.name} to {bits} bits, once")
        _keep(kept, lambda: read_source(path), bits, group_size, progress)
    return _build(path, read_source(kept), packed=True)


def _read_decoded(path: Path, progress: Progress) -> Source:
    """Read a base; what has to be decoded comes packed, and is kept on disk.

    Where nothing can be kept it is decoded each time.
    """
    kept = _place(path, "decoded")
    if kept.exists() or path.is_dir():
        return read_source(path if path.is_dir() else kept)
    source = read_gguf_base(path, _DECODED)
    if not source.decoded:
        return source
    progress(f"decoding {path.name}, once")
    try:
        _keep(kept, lambda: source, progress=progress)
    except DiskError as error:
        progress(f"{error}; it is decoded each time")
        return read_gguf_base(path, _DECODED)
    return read_source(kept)


def _place(path: Path, form: str) -> Path:
    """Return where another form of a base is kept.

    What lies there was made of these files: another size or date is another place.
    """
    files = [path] if path.is_file() else find_files(path, "*.safetensors")
    stats = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = hashlib.sha256(repr(stats).encode()).hexdigest()[:16]
    return settings.cache_dir() / "bases" / f"{path.stem}-{key}-{form}"


def _keep(
    kept: Path,
    read: Callable[[], Source],
    bits: int | None = None,
    group_size: int = 64,
    progress: Progress = quiet,
) -> None:
    """Write a base into the cache, packed as `write_base` has it, unless another process has."""
    with locked(kept.parent / ".lock"):
        if not kept.exists():
            with replacing(kept) as folder:
                folder.mkdir()
                source = read()
                model = make_model(source.config)
                write_base(source, model, folder, bits, group_size, progress=progress)


def _build(path: Path, source: Source, packed: bool, dtype: mx.Dtype | None = None) -> Base:
    """Make the model and give it the tensors, packed as they are or dense."""
    model, profile = make_model(source.config), Profile.from_config(source.config)
    if "lm_head" not in model:  # some files repeat the tied embedding
        source.layers.pop("lm_head", None)
    dtype = dtype or _choose_dtype(source.dtype, profile.family)
    nbytes = _fill(model, source.layers, packed, dtype)
    # Every model draws weights that are never made: each draw would hold on to the one before.
    mx.eval(cast(Any, mx.random.state)[0])
    form = form_of(model, dtype)
    groups = fuse(model, profile)
    ends = [*source.tokenizer.ids(profile.eos), *source.eos_ids]
    if not ends:
        raise FormatError("the base names no token that ends an output")
    return Base(
        path=path.absolute(),
        model=model,
        groups=groups,
        tokenizer=source.tokenizer,
        profile=profile,
        window=min(profile.window, source.context),
        eos=frozenset(ends),
        end=ends[0],
        dtype=dtype,
        form=form,
        nbytes=nbytes,
    )


def fill(model: nn.Module, tensors: Tensors) -> tuple[mx.Dtype, int]:
    """Give a model its tensors, in their own type on a GPU; return (dtype, bytes).

    Packed ones stay so there, and `tensors` is emptied. FormatError if they do not fit.
    """
    dtype = weight_dtype(tensors) if on_gpu() else mx.float32
    return dtype, _fill(model, by_layer(tensors), on_gpu(), dtype)


def _fill(
    model: nn.Module, layers: dict[str, Callable[[], Tensors]], packed: bool, dtype: mx.Dtype
) -> int:
    """Give a model its tensors, evaluated, packed as they are or dense; return their bytes.

    `layers` are popped one by one, so that no second copy of them all is ever there.
    FormatError for tensors that do not fit the model.
    """
    modules, wanted = dict(model.named_modules()), shapes_of(model)
    given: Tensors = {}
    found: dict[str, tuple[int, ...]] = {}
    packings: dict[str, Packing] = {}
    for path in list(layers):
        parts, layer = layers.pop(path)(), modules.get(path)
        packing = (
            infer_packing(path, layer, parts) if layer is not None and is_matrix(layer) else None
        )
        shapes = dense_shapes(path, parts, packing)
        if packing and packed:
            packings[path] = packing
        elif packing:
            parts = unpack(parts, packing, mx.float32)
        cast = {n: t if t.dtype == mx.uint32 else t.astype(dtype) for n, t in parts.items()}
        if all(wanted.get(name) == shape for name, shape in shapes.items()):
            evaluate(cast.values())
        given |= {f"{path}.{part}": tensor for part, tensor in cast.items()}
        found |= shapes
        del parts
        mx.clear_cache()
    check_fit(wanted, found)
    nn.quantize(model, class_predicate=lambda path, _: packings.get(path, False))
    model.load_weights(list(given.items()))
    model.eval()
    return sum(tensor.nbytes for tensor in given.values())


def _choose_dtype(stored: mx.Dtype, family: Family) -> mx.Dtype:
    """Return float32 without a GPU; with one, the type of the stored weights if it has 16 bits.

    It is bfloat16 where activations may leave float16's range.
    """
    if not on_gpu():
        return mx.float32
    return mx.float16 if stored == mx.float16 and family.fits_float16 else mx.bfloat16


def form_of(model: nn.Module, dtype: mx.Dtype) -> str:
    """Return the dtype of activations, and every packing that a layer has."""
    layers = (layer for _, layer in model.named_modules() if hasattr(layer, "bits"))
    packings = sorted({f"{layer.bits}-bit g{layer.group_size}" for layer in layers})
    return ", ".join([str(dtype).rpartition(".")[2], *packings])
