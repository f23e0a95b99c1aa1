"""A base in memory: as stored, dense, or quantized on load.

Without a GPU float32 is the fast path, and a base is made dense unless bits are asked for.
What was quantized is kept on disk and found again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from ... import settings
from ...device import on_gpu
from ...errors import FormatError, OptionError
from ...files import replacing
from ...formats.fingerprint import base_fingerprint, fingerprint
from ...locks import locked
from ...profiles import Profile
from ...progress import Progress, quiet
from ..adapters.parallel import Parallel, fuse
from ..base.packing import PACKED_BITS, PARTS, Packing, check_group_size, infer_packing, unpack
from ..base.read import read_source
from ..base.source import Source
from ..base.tensors import Tensors, check_fit, common_dtype, evaluate, shapes_of
from ..base.tokenizer import Tokenizer
from ..base.write import write_base
from . import make_model
from .decoder import Decoder

_CONFIG_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class Base:
    """A base ready to run.

    `window` counts tokens; `eos` are the ids that end an output, `end` the one to train on.
    `groups` are the model's linear layers, in the order they run, where adapters go.
    `path` is where it was read from, also where a quantized copy of it runs; `form` says how
    its weights are held (`bfloat16, 4-bit g64`).
    """

    path: Path
    model: Decoder
    groups: list[Parallel]
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
    exact: bool = False,
    progress: Progress = quiet,
) -> Base:
    """Load a base from a directory or GGUF file; `Interpreter.load` says what `bits` does.

    `exact` makes it dense float32 whatever the device, as training wants it.

    Raises NotFound, FormatError (with the tensors that are wrong) or OptionError.
    """
    if bits not in (None, 16, *PACKED_BITS):
        raise OptionError(f"bits must be one of 4, 6, 8 or 16, not {bits}")
    check_group_size(group_size)
    if exact:
        return _build(path, read_source(path), packed=False, dtype=mx.float32)
    if bits not in PACKED_BITS:
        return _build(path, read_source(path), packed=bits is None and on_gpu(), half=bits == 16)
    kept = _quantize(path, bits, group_size, progress)
    return _build(path, read_source(kept), packed=True)


def _quantize(path: Path, bits: int, group_size: int, progress: Progress) -> Path:
    """Return where the quantized form of a base lies; it is made the first time.

    What lies there was made of these files: another size or date is another place.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    stats = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = hashlib.sha256(repr(stats).encode()).hexdigest()[:16]
    kept = settings.cache_dir() / "bases" / f"{path.stem}-{key}-{bits}bit-g{group_size}"
    with locked(kept.parent / ".lock"):
        if not kept.exists():
            progress(f"quantizing {path.name} to {bits} bits, once")
            with replacing(kept) as folder:
                folder.mkdir()
                source = read_source(path)
                write_base(source, make_model(source.config), folder, bits, group_size)
    return kept


def _build(
    path: Path, source: Source, packed: bool, half: bool = False, dtype: mx.Dtype | None = None
) -> Base:
    """Make the model and give it the tensors, packed as they are or dense."""
    model, profile = make_model(source.config), Profile.from_config(source.config)
    if "lm_head" not in model:  # some files repeat the tied embedding
        source.layers.pop("lm_head", None)
    dtype = dtype or _choose_dtype(source.dtype, half)
    dtype, nbytes = fill(model, source.tensors, packed=packed, dtype=dtype)
    form = form_of(model, dtype)
    source.layers.clear()  # or it would keep what is fused, a second time
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


def fill(
    model: nn.Module,
    tensors: Tensors,
    *,
    packed: bool | None = None,
    dtype: mx.Dtype | None = None,
) -> tuple[mx.Dtype, int]:
    """Give a model its tensors, evaluated, packed as they are or dense; return (dtype, bytes).

    `packed` None means packed on a GPU. FormatError for tensors that do not fit the model.
    """
    if packed is None:
        packed = on_gpu()
    if not packed:
        tensors = _decode(model, tensors)
    # Norms and biases do not count: a GGUF keeps them in float32 beside everything else.
    dtype = dtype or _choose_dtype(common_dtype(t.dtype for t in tensors.values() if t.ndim > 1))
    nn.quantize(model, class_predicate=lambda path, layer: _packing(path, layer, tensors) or False)
    check_fit(shapes_of(model), {name: tensor.shape for name, tensor in tensors.items()})
    cast = {n: t if t.dtype == mx.uint32 else t.astype(dtype) for n, t in tensors.items()}
    model.load_weights(list(cast.items()))
    model.eval()
    evaluate(cast.values())
    return dtype, sum(tensor.nbytes for tensor in cast.values())


def _packing(path: str, layer: nn.Module, tensors: Tensors) -> Packing | None:
    """Return how the layer at `path` is packed in these tensors; None if it is dense."""
    names = {part: f"{path}.{part}" for part in PARTS}
    found = {part: tensors[name] for part, name in names.items() if name in tensors}
    return infer_packing(path, layer, found)


def _decode(model: nn.Module, tensors: Tensors) -> Tensors:
    """Return the tensors with every packed layer decoded."""
    dense = dict(tensors)
    for path, layer in model.named_modules():
        if packing := _packing(path, layer, tensors):
            parts = {part: dense.pop(f"{path}.{part}") for part in PARTS}
            dtype = parts["scales"].dtype if on_gpu() else mx.float32
            dense[f"{path}.weight"] = unpack(parts, packing, dtype)["weight"]
    return dense


def _choose_dtype(stored: mx.Dtype, half: bool = False) -> mx.Dtype:
    """Return float32 without a GPU; with one, the type of the stored weights.

    `half` asks for no more than 16 bits.
    """
    if not on_gpu():
        return mx.float32
    return mx.bfloat16 if half and stored == mx.float32 else stored


def form_of(model: nn.Module, dtype: mx.Dtype) -> str:
    """Return the dtype of activations, and every packing that a layer has."""
    layers = (layer for _, layer in model.named_modules() if hasattr(layer, "bits"))
    packings = sorted({f"{layer.bits}-bit g{layer.group_size}" for layer in layers})
    return ", ".join([str(dtype).rpartition(".")[2], *packings])
