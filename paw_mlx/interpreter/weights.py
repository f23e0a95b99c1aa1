"""A base in memory: as stored, dense, or quantized on load.

Without a GPU float32 is the fast path, and a base is made dense unless bits are asked for.
What was quantized is kept on disk and found again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from .. import settings
from ..errors import FormatError, HubError, OptionError, listed
from ..files import replacing
from ..formats.fingerprint import fingerprint
from ..profiles import Profile
from ..store import locked
from ..wheels import Progress, quiet
from . import gguf_base
from .decode import Decoder
from .source import Source, Tensors, read_directory
from .tokenizer import Tokenizer

PACKED_BITS, GROUP_SIZES = (4, 6, 8), (32, 64, 128)
PARTS = ("weight", "scales", "biases")  # of a packed layer


@dataclass(frozen=True, eq=False)
class Base:
    """A base ready to run.

    `window` counts tokens; `eos` are the ids that end an output, `end` the one to train on.
    `path` is where it was read from, also where a quantized copy of it runs.
    """

    path: Path
    model: Decoder
    tokenizer: Tokenizer
    profile: Profile
    window: int
    eos: frozenset[int]
    end: int
    dtype: mx.Dtype
    nbytes: int

    @cached_property
    def fingerprint(self) -> str:
        """Which weights these are; read when first asked for, since a GGUF takes 40 ms."""
        return fingerprint(self.path)


def load_base(
    path: Path,
    *,
    bits: int | None = None,
    group_size: int = 64,
    exact: bool = False,
    progress: Progress = quiet,
) -> Base:
    """Load a base from a directory or GGUF file; `Interpreter.load` says what `bits` does.

    `exact` makes it dense float32 whatever the device, as training wants it.

    Raises NotFound, FormatError (with the tensors that are wrong) or OptionError.
    """
    if bits not in (None, 16, *PACKED_BITS):
        raise OptionError(f"bits must be one of 4, 6, 8 or 16, not {bits}")
    if group_size not in GROUP_SIZES:
        raise OptionError(f"group_size must be one of 32, 64 or 128, not {group_size}")
    if exact:
        return _build(path, read_source(path), packed=False, dtype=mx.float32)
    if bits not in PACKED_BITS:
        return _build(path, read_source(path), packed=bits is None and _on_gpu(), half=bits == 16)
    kept = _kept_path(path, bits, group_size)
    with locked(kept.parent / ".lock"):
        if not kept.exists():
            progress(f"quantizing {path.name} to {bits} bits, once")
            _keep(read_source(path), kept, bits, group_size)
    return _build(path, read_source(kept), packed=True)


def read_source(path: Path) -> Source:
    """A base as its directory or GGUF file holds it, its tensors still unread."""
    return read_directory(path) if path.is_dir() else gguf_base.read(path)


def _build(
    path: Path, source: Source, packed: bool, half: bool = False, dtype: mx.Dtype | None = None
) -> Base:
    """Make the model and give it the tensors, packed as they are or dense."""
    model, profile = _model(source)
    tensors = source.tensors
    if "lm_head" not in model:  # some files repeat the tied embedding
        tensors = {n: t for n, t in tensors.items() if not n.startswith("lm_head.")}
    dtype, nbytes = fill(model, tensors, packed=packed, half=half, dtype=dtype)
    ends = [*source.tokenizer.ids(profile.eos), *source.eos_ids]
    if not ends:
        raise FormatError("the base names no token that ends an output")
    return Base(
        path=path.absolute(),
        model=model,
        tokenizer=source.tokenizer,
        profile=profile,
        window=min(profile.window, source.context),
        eos=frozenset(ends),
        end=ends[0],
        dtype=dtype,
        nbytes=nbytes,
    )


def fill(
    model: nn.Module,
    tensors: Tensors,
    *,
    packed: bool | None = None,
    half: bool = False,
    dtype: mx.Dtype | None = None,
) -> tuple[mx.Dtype, int]:
    """Give a model its tensors, evaluated: packed as they are, or dense. (dtype, bytes).

    `packed` None means packed on a GPU. FormatError for tensors that do not fit the model.
    """
    if not (_on_gpu() if packed is None else packed):
        tensors = _dense(model, tensors)
    dtype = dtype or _compute_dtype(tensors, half)
    nn.quantize(model, class_predicate=lambda path, layer: _packing(layer, path, tensors) or False)
    _check(model, tensors)
    settled = {n: t if t.dtype == mx.uint32 else t.astype(dtype) for n, t in tensors.items()}
    model.load_weights(list(settled.items()))
    model.eval()
    _evaluate(list(settled.values()))
    return dtype, sum(tensor.nbytes for tensor in settled.values())


def _model(source: Source) -> tuple[nn.Module, Profile]:
    """The model, weightless, and its profile; made first, for it checks the config's sizes."""
    profile = Profile.from_config(source.config)
    try:
        return source.module.Model(source.module.Args.from_config(source.config)), profile
    except KeyError as error:
        raise FormatError(f"the base's config lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"the base's config is malformed: {error}") from error


def _packing(layer: nn.Module, path: str, tensors: Mapping[str, mx.array]) -> dict[str, Any] | None:
    """Group size and bits of a packed layer, from shapes; None if it is dense.

    The logical width comes from the model: (4 bits, 64) and (8 bits, 32) pack alike.
    """
    if f"{path}.scales" not in tensors:
        return None
    parts = [tensors.get(f"{path}.{part}") for part in PARTS]
    shapes = [part.shape for part in parts if part is not None]
    if len(shapes) < len(PARTS) or 0 in shapes[0] + shapes[1]:
        raise FormatError(f"{path} is packed, but its codes, scales or biases are missing")
    width = layer.weight.shape[-1]
    bits, group_size = shapes[0][-1] * 32 // width, width // shapes[1][-1]
    if bits not in (2, 3, 4, 5, 6, 8) or group_size not in GROUP_SIZES:
        raise FormatError(f"{path} is packed in {bits} bits and groups of {group_size}")
    return {"group_size": group_size, "bits": bits}


def _dense(model: nn.Module, tensors: Tensors) -> Tensors:
    """Decode every packed layer."""
    dense = dict(tensors)
    for path, layer in model.named_modules():
        if packing := _packing(layer, path, tensors):
            codes, *affine = (dense.pop(f"{path}.{part}") for part in PARTS)
            if not _on_gpu():
                affine = [part.astype(mx.float32) for part in affine]
            dense[f"{path}.weight"] = mx.dequantize(codes, affine[0], affine[1], **packing)
    return dense


def _compute_dtype(tensors: Tensors, half: bool) -> mx.Dtype:
    """float32 without a GPU; with one, the type of the stored weights (or their scales).

    Norms and biases do not count: a GGUF keeps them in float32 beside everything else.
    """
    stored = {t.dtype for t in tensors.values() if t.ndim > 1} - {mx.uint32}
    if not _on_gpu() or (stored == {mx.float32} and not half):
        return mx.float32
    return mx.float16 if mx.float16 in stored and mx.bfloat16 not in stored else mx.bfloat16


def _check(model: nn.Module, tensors: Tensors) -> None:
    """Raise FormatError with every tensor that is missing, surplus or misshapen."""
    wanted = dict(tree_flatten(model.parameters()))
    wrong = [f"{name} is missing" for name in sorted(wanted.keys() - tensors.keys())]
    wrong += [f"{name} is unknown" for name in sorted(tensors.keys() - wanted.keys())]
    wrong += [
        f"{name} is {tensors[name].shape}, not {wanted[name].shape}"
        for name in sorted(wanted.keys() & tensors.keys())
        if tensors[name].shape != wanted[name].shape
    ]
    if wrong:
        raise FormatError(f"{len(wrong)} of the base's tensors do not fit: {listed(wrong)}")


def _keep(source: Source, path: Path, bits: int, group_size: int) -> None:
    """Quantize to `bits` and write a directory that loads like any other base."""
    model, _ = _model(source)
    tensors = _dense(model, source.tensors)
    for stem, layer in model.named_modules():
        name = f"{stem}.weight"
        if not isinstance(layer, nn.Linear | nn.Embedding) or name not in tensors:
            continue
        if (columns := tensors[name].shape[-1]) % group_size:
            raise OptionError(
                f"rows of {name} have {columns} elements, which groups of {group_size} do not fit"
            )
        parts = mx.quantize(tensors[name], group_size=group_size, bits=bits)
        tensors |= {f"{stem}.{part}": array for part, array in zip(PARTS, parts, strict=True)}
    config = source.config | {"quantization": {"group_size": group_size, "bits": bits}}
    _evaluate(list(tensors.values()))
    with replacing(path) as folder:
        folder.mkdir()
        try:
            mx.save_safetensors(str(folder / "model.safetensors"), tensors, {"format": "mlx"})
        except RuntimeError as error:
            raise HubError(f"cannot write {path}: {error}") from error
        source.tokenizer.save(folder / "tokenizer.json")
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _evaluate(arrays: list[mx.array]) -> None:
    """Read what is still lazy; only now does a file that was cut short show it."""
    try:
        mx.eval(arrays)
    except RuntimeError as error:
        raise FormatError(f"the base's weights are damaged: {error}") from error


def _kept_path(path: Path, bits: int, group_size: int) -> Path:
    """Where the quantized form lies; another file, size or date is another place."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    stats = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = hashlib.sha256(repr(stats).encode()).hexdigest()[:16]
    return settings.cache_dir() / "bases" / f"{path.stem}-{key}-{bits}bit-g{group_size}"


def _on_gpu() -> bool:
    return mx.default_device() == mx.Device(mx.gpu)
