"""Every layout into every other, in every dtype it is written in: the same mathematics.

Nothing changes where a dtype is kept or widened. Where it is narrowed, or B takes a factor
because the target has one alpha or one scale, each element may move by what its rounding
allows, and the delta by what follows from that.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import layouts
import numpy as np
import pytest

from paw_mlx import formats
from paw_mlx.adapter import Adapter, Lora, Site
from paw_mlx.formats.gguf import recode
from paw_mlx.formats.tensors import write_safetensors
from paw_mlx.profiles import Profile
from paw_mlx.program import Program, Template

TARGETS = tuple(layout for layout, dtypes in formats.DTYPES.items() if dtypes)
SOURCES = {**formats.DTYPES, "paw-v2": ("f32", "f16", "bf16")}
WIDER = {"f32": {"f32"}, "f16": {"f16", "f32"}, "bf16": {"bf16", "f32"}}
WIDER |= {"q8_0": {"q8_0", "f32"}, "q4_0": {"q4_0", "f32"}}
ONE_SCALE = 8.0


class Kind(NamedTuple):
    """Of what family an adapter is, how unlike its sites are, and the dtypes it comes in."""

    family: str
    mixed: bool
    dtypes: tuple[str, ...]


KINDS = [
    Kind("llama", False, ("f32", "f16", "bf16", "q8_0", "q4_0", "mlx-q4")),
    Kind("llama", True, ("f32", "q4_0", "mlx-q4")),
    Kind("qwen3", True, ("f32",)),
    Kind("gpt2", True, ("f32",)),
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Adapter]:
    """The adapter as read from a source: sources(kind, layout, dtype)."""
    folder, known = tmp_path_factory.mktemp("sources"), {}

    def read(kind: Kind, base: Profile, made: Adapter, layout: str, dtype: str) -> Adapter:
        key = (kind, layout, dtype)
        if key not in known:
            path = folder / f"{kind.family}-{kind.mixed}-{layout}-{dtype}"
            write(made, path, layout, base, dtype)
            assert formats.sniff(path) == layout
            known[key] = formats.load_adapter(path, base)
        return known[key]

    return read


def write(adapter: Adapter, path: Path, layout: str, base: Profile, dtype: str | None) -> None:
    if layout == "paw-v2":
        path.write_bytes(legacy(adapter, path, base, dtype))
    else:
        program = Program(Template("Say it: ", ""), adapter, base.name)
        layouts.save(program, path, layout, base, dtype)


def legacy(adapter: Adapter, path: Path, base: Profile, dtype: str | None) -> bytes:
    tensors = {
        f"lora_{base.family.path(site)}.lora_{half}": recode(m, dtype)
        for site, lora in adapter.sites.items()
        for half, m in (("A", lora.A), ("B", lora.B))
    }
    write_safetensors(path, tensors, {})
    record = {"interpreter_model": base.name, "lora_config": {"alpha": ONE_SCALE}}
    text = json.dumps(record).encode()
    return b"PAW\x02" + struct.pack("<II", 2, len(text)) + text + path.read_bytes()


def made_for(kind: Kind, layout: str, base: Profile, make: Callable[..., Adapter]) -> Adapter:
    """An adapter to begin with. A legacy container has one alpha and no missing sites."""
    if not kind.mixed:
        return make(base, alpha=ONE_SCALE)

    def rank(site: Site) -> int:
        return 64 if site.module in ("q_proj", "c_fc") else 32

    if layout == "paw-v2":
        return make(base, rank, alpha=ONE_SCALE)
    first, second = base.family.modules[:2]
    sites = [s for s in base.sites() if s.layer != 1 and s not in ((0, first), (2, second))]
    return make(base, rank, sites, alpha=lambda s: 24.0 if "down" in s.module else 3.5 + s.layer)


def canonical(dtype: str) -> str:
    return "q4_0" if dtype == "mlx-q4" else dtype


def written_as(dtype: str | None, stored: str, layout: str, factor: float) -> str:
    """The dtype that a matrix takes in the target."""
    if dtype:
        return canonical(dtype)
    floats_only = layout in ("peft", "mlx") and stored in ("q8_0", "q4_0")
    return "f32" if floats_only or factor != 1 else stored


def rounding(values: np.ndarray, dtype: str) -> np.ndarray:
    """How far each element may move when it is written in a dtype."""
    if dtype == "f32":
        return np.zeros_like(values)
    if dtype in ("f16", "bf16"):
        return np.abs(values) * 2.0 ** (-11 if dtype == "f16" else -8) + 2.0**-25
    steps, off = (127, 0.5) if dtype == "q8_0" else (8, 1.0)  # -8 to 7: one end is a step short
    step = np.abs(values.reshape(-1, 32)).max(axis=1, keepdims=True) / steps
    bound = step * off * (1 + 2.0**-20) + steps * (step * 2.0**-11 + 2.0**-25)
    return np.broadcast_to(bound, (values.size // 32, 32)).reshape(values.shape)


def moved(values: np.ndarray, stored: str, written: str, factor: float = 1.0) -> np.ndarray:
    """How far each of `values`, which took a factor, may be off."""
    fold = 0.0 if factor == 1 else 2.0**-23
    kept = factor == 1 and written in WIDER[stored]
    slack = np.abs(values) * fold
    return slack + (0 if kept else rounding(np.abs(values) + slack, written))


def assert_same(origin: Lora, got: Lora, layout: str, dtype: str | None) -> bool:
    """Compare one site; whether it had to be exact."""
    factor = origin.scale / got.scale if got.scale else 0.0
    factor = 1.0 if abs(factor - 1) < 1e-12 else factor
    r = origin.rank
    A, B = (m.dense().astype(np.float64) for m in (origin.A, origin.B))
    B = B * factor
    A_got, B_got = got.A.dense(), got.B.dense()
    assert not A_got[r:].any()
    assert not B_got[:, r:].any()
    as_a = written_as(dtype, origin.A.dtype, layout, 1)
    as_b = written_as(dtype, origin.B.dtype, layout, factor)
    assert (got.A.dtype, got.B.dtype) == (as_a, as_b)
    off_a = moved(A, origin.A.dtype, as_a)
    off_b = moved(B, origin.B.dtype, as_b, factor)
    assert (np.abs(A_got[:r] - A) <= off_a).all()
    assert (np.abs(B_got[:, :r] - B) <= off_b).all()
    bound = off_b @ np.abs(A) + np.abs(B) @ off_a + off_b @ off_a
    delta = B_got[:, :r].astype(np.float64) @ A_got[:r].astype(np.float64)
    assert (np.abs(delta - B @ A) <= bound * (1 + 1e-9) + 1e-13).all()
    return not (off_a.any() or off_b.any())


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", KINDS, ids=lambda k: f"{'mixed' if k.mixed else 'even'}-{k.family}"
)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_pair_means_the_same_in_every_dtype(
    bases: dict[str, Profile], make, sources, tmp_path: Path, source: str, target: str, kind: Kind
) -> None:
    base = bases[kind.family]
    adapter = made_for(kind, source, base, make)
    for stored in (dtype for dtype in SOURCES[source] if dtype in kind.dtypes):
        origin = sources(kind, base, adapter, source, stored)
        for dtype in (None, *formats.DTYPES[target]):
            path = tmp_path / f"{stored}-{dtype}"
            write(origin, path, target, base, dtype)
            got = formats.load_adapter(path, base)
            exact = [
                assert_same(lora, got.sites[site], target, dtype)
                for site, lora in origin.sites.items()
            ]
            widened = dtype is None or canonical(dtype) in WIDER[canonical(stored)]
            if widened and (not kind.mixed or target == "peft"):
                assert all(exact)
            for site in {*got.sites} - {*origin.sites}:
                assert not got.delta(site).any()
