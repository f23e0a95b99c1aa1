"""GGUF adapters: what llama.cpp and the official SDK run.

    adapter.lora.alpha               one alpha for the file; 0 means a scale of 1
    blk.<i>.<name>.weight.lora_a     (r, d_in)
    blk.<i>.<name>.weight.lora_b     (d_out, r)

The surprise: Llama's GGUF reorders the output rows of q and k for its rotary embedding, and
an adapter's B rows with them. An `Adapter` always holds Hugging Face's order; files written
here carry the head counts that undo it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..adapter import BLOCKS, Adapter, Lora, Matrix, Site, missing_sites
from ..errors import AdapterMismatch, FormatError, OptionError, listed
from ..families import FAMILIES, Family
from ..profiles import Profile, find_fitting, find_profile
from .gguf_reader import TYPES, GGUFTensor, read_gguf
from .sites import Found, check_complete, commonest, factor, fill, fold, pair_names
from .tensors import MAX_FILE_BYTES, Later, Stored, float_matrix
from .untrusted import map_bytes, number, shown

DTYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
QUANTIZED = ("q8_0", "q4_0")
_KINDS = {name.lower(): kind for kind, (name, _, _) in TYPES.items()}
_ALIGNMENT = 32
_TENSOR = re.compile(r"(.+)\.weight\.lora_([ab])")
_HUB = "https://huggingface.co/"
_REPO = re.compile(r"[\w.-]+(/[\w.-]+)?")
_BASE = "general.base_model.0.repo_url"


def read(source: Path | memoryview, profile: Profile | None) -> Found:
    """Read a GGUF adapter from a path or a view; `profile` is its base, if known."""
    view = map_bytes(source, MAX_FILE_BYTES) if isinstance(source, Path) else source
    file = read_gguf(view)
    family, alpha = _read_header(file.metadata)
    if profile and profile.family is not family:
        raise AdapterMismatch(
            f"the adapter is for {family.name}, and {profile.name} is {profile.family.name}"
        )
    sites = {}
    for site, pair in pair_names(file.tensors, _TENSOR, family.site_of_gguf).items():
        A, B = (_matrix(file.tensors[name]) for name in pair)
        sites[site] = Lora(A, B, alpha or float(A.shape[0]))
    adapter = Adapter(sites)
    check_complete(sites, missing_sites(sites))
    base = str(file.metadata.get(_BASE, "")).removeprefix(_HUB)
    heads = _find_heads(file.metadata, adapter, family, profile or find_profile(base))
    return Found(_unpermute(adapter, heads), base)


def write(adapter: Adapter, path: Path, profile: Profile, dtype: str | None) -> None:
    """Write a GGUF adapter in one of `DTYPES`, or as stored (None).

    OptionError if the blocks of a quantized dtype do not divide every row, the rank included.
    """
    family = profile.family
    adapter = fill(adapter, missing_sites(adapter.sites), profile)
    # 0 would mean a scale of 1, so a silent site's zero goes into its B.
    alpha = commonest([o.alpha for o in adapter.sites.values() if o.alpha] or [1.0])
    check_blocks(adapter, dtype)
    heads = {"q_proj": profile.num_heads, "k_proj": profile.num_kv_heads}
    tensors: dict[str, Stored] = {}
    for site, lora in sorted(adapter.sites.items()):
        name = f"{family.gguf_name(site)}.weight.lora_"
        rows = None
        if site.module in family.permuted:
            rows = _row_order(lora.B.shape[0], heads[site.module], site)
        tensors[f"{name}a"] = _later(lora.A, dtype)
        tensors[f"{name}b"] = _later(lora.B, dtype, factor(lora.alpha, alpha), rows)
    _write_file(path, _keys(profile, float(alpha)), tensors)


def _later(
    m: Matrix, dtype: str | None, times: float = 1.0, rows: np.ndarray | None = None
) -> Later:
    """Return a matrix to be written: multiplied, recoded, its rows in another order."""
    wanted = dtype or (m.dtype if times == 1 else "f32")

    def made() -> Matrix:
        matrix = recode(fold(m, times), wanted)
        return matrix if rows is None else matrix.take_rows(rows)

    return Later.matrix(wanted, m.shape, made)


def _keys(profile: Profile, alpha: float) -> dict[str, str | int | float]:
    """Return the metadata of an adapter file."""
    name = profile.family.name
    keys: dict[str, str | int | float] = {
        "general.architecture": name,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
        f"{name}.attention.head_count": profile.num_heads,
        f"{name}.attention.head_count_kv": profile.num_kv_heads,
    }
    if _REPO.fullmatch(profile.repo):
        keys |= {"general.base_model.count": 1, _BASE: _HUB + profile.repo}
    return keys


def _write_file(
    path: Path, keys: Mapping[str, str | int | float], tensors: Mapping[str, Stored]
) -> None:
    """Write GGUF version 3. (gguf's own writer does not say why a disk refuses.)"""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for key, value in keys.items():
        head += _text(key)  # then GGUF's number for string, uint32 or float32
        if isinstance(value, str):
            head += struct.pack("<I", 8) + _text(value)
        elif isinstance(value, int):
            head += struct.pack("<II", 4, value)
        else:
            head += struct.pack("<If", 6, value)
    at = 0
    for name, m in tensors.items():
        rows, columns = m.shape
        head += _text(name) + struct.pack("<IQQIQ", 2, columns, rows, _KINDS[m.dtype], at)
        at += m.nbytes + -m.nbytes % _ALIGNMENT
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % _ALIGNMENT))
        for m in tensors.values():
            file.write(np.ascontiguousarray(m.data).data)
            file.write(bytes(-m.nbytes % _ALIGNMENT))


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def quantize(m: Matrix, dtype: str) -> Matrix:
    """Return a matrix in q8_0 or q4_0, bit for bit what the gguf package makes of its float32."""
    from gguf import GGMLQuantizationType, quants

    dense = m.dense()
    with np.errstate(all="ignore"):
        made = Matrix(dtype, m.shape, quants.quantize(dense, GGMLQuantizationType[dtype.upper()]))
    if not made.is_finite() and np.isfinite(dense).all():
        raise OptionError(f"a weight of {np.abs(dense).max():.4g} is too large for {dtype}")
    return made


def recode(m: Matrix, dtype: str | None) -> Matrix:
    """Return a matrix in another dtype, one of `DTYPES`; None keeps its own."""
    if dtype in (None, m.dtype):
        return m
    return quantize(m, dtype) if dtype in QUANTIZED else float_matrix(m.dense(), str(dtype))


def check_blocks(adapter: Adapter, dtype: str | None) -> None:
    """Raise OptionError if a quantized dtype's blocks do not divide every row of A and B."""
    if dtype not in QUANTIZED:
        return
    block = BLOCKS[dtype][0]
    rows = {columns for o in adapter.sites.values() for columns in (o.A.shape[1], o.rank)}
    odd = sorted(columns for columns in rows if columns % block)
    if odd:
        raise OptionError(
            f"{dtype} stores blocks of {block}, and there are rows of {listed(odd)} elements "
            f"(ranks: {listed(adapter.ranks)})",
            hint="Write f16 instead, or make the rank a multiple of 32.",
        )


def _read_header(metadata: Mapping[str, Any]) -> tuple[Family, float]:
    """Return the family and alpha of an adapter file; FormatError if it is something else."""
    kind = (metadata.get("general.type"), metadata.get("adapter.type"))
    if [*map(str, kind)] != ["adapter", "lora"]:  # any value may be an array, which has no truth
        raise FormatError(
            f"the GGUF file is a {shown(kind[0])} of type {shown(kind[1])}, not a LoRA adapter"
        )
    if "adapter.alora.invocation_tokens" in metadata:
        raise FormatError("an activated LoRA is not supported: it works on some tokens only")
    name = metadata.get("general.architecture")
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        raise FormatError(
            f"the adapter's architecture {shown(name)} is not supported",
            hint=f"Supported: {listed(sorted(FAMILIES))}.",
        )
    if "adapter.lora.alpha" not in metadata:
        raise FormatError("the GGUF adapter has no adapter.lora.alpha, and the scale needs it")
    return family, number(metadata["adapter.lora.alpha"], "adapter.lora.alpha")


def _matrix(tensor: GGUFTensor) -> Matrix:
    dtype = tensor.type_name.lower()
    if dtype not in BLOCKS or len(tensor.shape) != 2:
        raise FormatError(
            f"the tensor {shown(tensor.name)} is {tensor.type_name} of shape {tensor.shape}, "
            f"not a matrix of {', '.join(BLOCKS)}"
        )
    rows, columns = tensor.shape
    return Matrix(dtype, (rows, columns), tensor.data.reshape(rows, -1))


def _find_heads(
    metadata: Mapping[str, Any], adapter: Adapter, family: Family, profile: Profile | None
) -> dict[str, int]:
    """Return how many heads each reordered module has: by the file, the base, or its sizes."""
    modules = [module for module in family.permuted if module in adapter.modules]
    if not modules:
        return {}
    keys = (f"{family.name}.attention.head_count", f"{family.name}.attention.head_count_kv")
    profile = profile or find_fitting(adapter)
    profile = profile if profile and profile.family is family else None
    known = (profile.num_heads, profile.num_kv_heads) if profile else None
    told = tuple(metadata[key] for key in keys if key in metadata)
    if len(told) != 2 and known is None:
        raise FormatError(
            f"the adapter does not say how many heads its {family.name} has, "
            "and the order of q and k rows depends on it",
            hint="Name its base with --interpreter.",
        )
    if len(told) == 2 and not all(type(count) is int and count > 0 for count in told):
        raise FormatError(f"the adapter's head counts are {shown(told)}, not positive numbers")
    if len(told) == 2 and known not in (None, told):
        raise AdapterMismatch(
            f"the adapter has head counts {told}, and {profile and profile.name} has {known}",
            hint="It was made for another base.",
        )
    by_module = dict(zip(("q_proj", "k_proj"), known or told, strict=True))
    return {module: by_module[module] for module in modules}


def _unpermute(adapter: Adapter, heads: Mapping[str, int]) -> Adapter:
    """Return the adapter with B's rows of the modules in `heads` in Hugging Face's order."""
    sites = dict(adapter.sites)
    for site, lora in adapter.sites.items():
        if site.module in heads:
            rows = np.argsort(_row_order(lora.B.shape[0], heads[site.module], site))
            sites[site] = Lora(lora.A, lora.B.take_rows(rows), lora.alpha)
    return Adapter(sites)


def _row_order(num_rows: int, heads: int, site: Site) -> np.ndarray:
    """Return where GGUF's rows lie in Hugging Face's: halves of a head become neighbours."""
    if num_rows % (2 * heads):
        raise AdapterMismatch(f"{site} has {num_rows} output rows, which {heads} heads do not fit")
    return np.arange(num_rows).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)
