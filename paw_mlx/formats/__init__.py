"""Bytes <-> Program or Adapter: no model, no network, no torch, no MLX.

    layout     load  save   what it is
    paw          x     x    a ZIP: adapter.gguf, prompt_template.txt, meta.json, ...
    directory    x     x    the same files in a folder
    paw-v2       x          the legacy container
    peft         a     a    adapter_config.json, adapter_model.safetensors
    gguf         a     a    one adapter file
    mlx          a     a    adapter_config.json, adapters.safetensors

    x: a whole program; a: an adapter, with `load_adapter` and `save_adapter`. All are read;
    `DTYPES` tells which dtypes each is written in.

A layout is known by its bytes, never by a suffix: two containers share `.paw`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ..adapter import Adapter
from ..errors import FormatError, NotFound, OptionError, UnknownLayout, listed
from ..files import is_litter, read_errors, replacing
from ..profiles import Profile, find_profile
from ..program import Program
from . import bundle, gguf, legacy, mlx, mlx_folders, peft
from .bundle import replace_meta
from .sites import Found
from .summary import Summary
from .tensors import FLOATS
from .untrusted import open_file, reading, shown

__all__ = [
    "DTYPES",
    "Found",
    "Summary",
    "check_replaceable",
    "check_rewritable",
    "load",
    "load_adapter",
    "read_adapter",
    "replace_meta",
    "save",
    "save_adapter",
    "sniff",
    "summarize",
]

_PROGRAMS: dict[str, Callable[[Path, Profile | None], Program]] = {
    "paw": bundle.read_archive,
    "directory": bundle.read_folder,
    "paw-v2": legacy.read_program,
}
_ADAPTERS: dict[str, Callable[[Path, Profile | None], Found]] = {
    "paw-v2": legacy.read,
    "peft": peft.read,
    "gguf": gguf.read,
    "mlx": mlx.read,
}
_WRITERS: dict[str, Callable[[Adapter, Path, Profile, str | None], None]] = {
    "peft": peft.write,
    "gguf": gguf.write,
    "mlx": mlx.write,
}
# What A and B may be stored as when a layout is written; without any, it is only read.
DTYPES: Mapping[str, tuple[str, ...]] = {
    "paw": gguf.DTYPES,
    "directory": gguf.DTYPES,
    "paw-v2": (),
    "peft": tuple(FLOATS),
    "gguf": gguf.DTYPES,
    "mlx": mlx.DTYPES,
}
_MAGIC = {b"PK\x03\x04": "paw", legacy.MAGIC: "paw-v2", b"GGUF": "gguf"}
# What a folder of ours may hold; one that holds more is not replaced.
_OURS = {*bundle.MEMBERS, peft.CONFIG, peft.WEIGHTS, mlx.WEIGHTS}


def sniff(path: str | Path) -> str:
    """Return the layout at a path, known by its bytes or members.

    UnknownLayout or NotFound if there is none, DiskError if one may not read it, FormatError if
    it cannot be read or only stands in for a file.
    """
    path = Path(path)
    with reading(path):
        if path.is_dir():
            return _sniff_folder(path)
        if not path.exists():
            raise NotFound(f"no such file or folder: {shown(str(path))[1:-1]}")
        if not path.is_file():
            raise UnknownLayout(f"{path} is neither a regular file nor a folder")
        with open_file(path) as file:
            head = file.read(9)
    if head[:4] in _MAGIC:
        return _MAGIC[head[:4]]
    if head[8:9] == b"{" and mlx_folders.is_checkpoint(path):
        return "mlx"
    raise UnknownLayout(
        f"{path} begins with {head[:4]!r}, which no known layout does",
        hint="Name the folder that holds this file and its adapter_config.json."
        if head[8:9] == b"{"
        else None,
    )


def load(path: str | Path, profile: Profile | None = None) -> Program:
    """Load a program from a container: a `.paw` of either kind, or a program's folder.

    Its adapter is checked against `profile`, or the base it names if that is a known one.

    FormatError for anything malformed, incomplete or not finite, and for a bare adapter;
    AdapterMismatch if its interpreter is known and the adapter does not fit.
    """
    layout = sniff(path)
    if layout not in _PROGRAMS:
        raise FormatError(
            f"{path} holds an adapter ({layout}) and no program: it has no prompt",
            hint="Load it as an adapter, or give it a template with Program(...).",
        )
    return _load_program(Path(path), layout, profile)


def load_adapter(path: str | Path, profile: Profile | None = None) -> Adapter:
    """Load the adapter of any layout, checked against `profile` or the base it names."""
    return read_adapter(path, profile).adapter


def read_adapter(path: str | Path, profile: Profile | None = None) -> Found:
    """Load the adapter of any layout, as `load_adapter` does, and the base it names."""
    layout = sniff(path)
    if layout in _ADAPTERS:
        return _load_adapter(Path(path), layout, profile)
    program = _load_program(Path(path), layout, profile)
    assert program.adapter is not None
    return Found(program.adapter, program.interpreter)


def save(
    program: Program,
    path: str | Path,
    dtype: str | None = "auto",
    *,
    layout: str | None = None,
    profile: Profile | None = None,
) -> None:
    """Save a program as a `.paw` ZIP, or as a folder if `path` ends with a slash.

    `dtype` is the adapter's: q4_0, q8_0, bf16, f16, f32, None for as it is, or `auto`: q4_0, and
    f16 for ranks that are no multiples of its blocks of 32. `layout` may say "paw" or "directory";
    `profile` is needed where the program's interpreter is not a known one.
    Written atomically. OptionError for what cannot be written, DiskError if the disk refuses.
    """
    layout = layout or ("directory" if str(path).endswith("/") else "paw")
    if layout not in ("paw", "directory"):
        raise OptionError(f"a program is saved as paw or directory, not {layout!r}")
    if dtype == "auto":
        ranks = program.adapter.ranks if program.adapter else ()
        dtype = "f16" if any(rank % 32 for rank in ranks) else "q4_0"
    _check_dtype(dtype, layout)
    profile = profile or find_profile(program.interpreter)
    if profile is None:
        raise OptionError(
            f"the interpreter {program.interpreter!r} is not known, so its tensors have no names",
            hint="Pass its profile.",
        )
    if program.adapter:
        _check(program.adapter, profile)
    path = Path(path)
    check_replaceable(path, layout)
    with replacing(path) as temporary:
        if layout == "directory":
            bundle.write(program, temporary, profile, dtype)
        else:
            folder = temporary.with_name(f"{temporary.name}.d")
            bundle.write(program, folder, profile, dtype)
            bundle.pack(folder, temporary)


def save_adapter(
    adapter: Adapter, path: str | Path, layout: str, profile: Profile, dtype: str | None = None
) -> None:
    """Save an adapter as "peft", "gguf" or "mlx", in one of the layout's `DTYPES`.

    None keeps what the layout can hold; for peft and mlx, q8_0 and q4_0 become f32, exactly.
    `mlx-q4` is q4_0 in MLX's own packing, which mlx-lm does not load as an adapter.
    Written atomically. OptionError for what cannot be written, AdapterMismatch if the
    adapter does not fit `profile`, DiskError if the disk refuses.
    """
    if layout not in _WRITERS:
        raise OptionError(f"an adapter is saved as {listed(list(_WRITERS))}, not {layout!r}")
    _check_dtype(dtype, layout)
    _check(adapter, profile)
    path = Path(path)
    check_replaceable(path, layout)
    with replacing(path) as temporary:
        _WRITERS[layout](adapter, temporary, profile, dtype)


def summarize(path: str | Path) -> Summary:
    """Summarize what a container or adapter holds, read and checked as `load` does."""
    path, layout = Path(path), sniff(path)
    try:
        program = _load_program(path, layout, None) if layout in _PROGRAMS else None
    except FormatError:
        if layout not in _ADAPTERS:
            raise
        program = None  # a legacy container for an unknown base still has an adapter
    if program and program.adapter:
        summary = Summary.of(path, layout, program.adapter, program.interpreter)
        return replace(
            summary,
            program_id=program.id,
            spec=program.spec,
            pseudo_program=program.pseudo_program,
            template=program.template.text,
            meta=dict(program.meta),
        )
    found = _load_adapter(path, layout, None)
    return Summary.of(path, layout, found.adapter, found.interpreter)


def _load_program(path: Path, layout: str, profile: Profile | None) -> Program:
    program = _PROGRAMS[layout](path, profile)
    if program.adapter:
        _check(program.adapter, profile or find_profile(program.interpreter))
    return program


def _load_adapter(path: Path, layout: str, profile: Profile | None) -> Found:
    found = _ADAPTERS[layout](path, profile)
    _check(found.adapter, profile or find_profile(found.interpreter))
    return found


def _check_dtype(dtype: str | None, layout: str) -> None:
    if dtype is not None and dtype not in DTYPES[layout]:
        others = [name for name, dtypes in DTYPES.items() if dtype in dtypes]
        raise OptionError(
            f"{layout} is written in {', '.join(DTYPES[layout])}, not {dtype}",
            hint=f"{dtype} is for {listed(others)}." if others else None,
        )


def _check(adapter: Adapter, profile: Profile | None) -> None:
    """Raise FormatError or AdapterMismatch for what is not finite, or does not fit the base."""
    adapter.check_finite()
    if profile:
        profile.check(adapter)


def _sniff_folder(path: Path) -> str:
    if (path / bundle.TEMPLATE).exists() or (path / bundle.META).exists():
        return "directory"
    if (path / peft.CONFIG).exists():
        return "mlx" if mlx_folders.is_mlx(path) else "peft"
    mlx_folders.refuse_npz(path)
    _refuse_parent(path)
    raise UnknownLayout(
        f"{path} has neither {bundle.TEMPLATE} and {bundle.META} nor {peft.CONFIG}",
        hint="Name a file inside it, or another folder.",
    )


def _refuse_parent(path: Path) -> None:
    """Raise UnknownLayout, naming them, for a folder that only holds folders of them."""
    with read_errors(path):
        folders = [one for one in sorted(path.iterdir()) if not one.name.startswith(("._", "__"))]
    for what, markers in (("programs", bundle.MARKERS), ("adapters", (peft.CONFIG,))):
        found = [one for one in folders if any((one / name).exists() for name in markers)]
        if found:
            raise UnknownLayout(
                f"{path} holds {what} in folders of their own: "
                + listed([shown(one.name) for one in found]),
                hint=f"Name one of them: {found[0]}.",
            )


def check_rewritable(path: Path) -> str:
    """Return the layout of a program that `save` can write in its place without losing anything.

    OptionError for one in a layout that is only read, and where there is more than a program.
    """
    layout = sniff(path)
    if layout not in ("paw", "directory"):
        raise OptionError(f"{path} is of the layout {layout}, which is not written")
    others = [name for name in bundle.names(path) if name not in bundle.MEMBERS]
    if others:
        raise OptionError(f"{path} also holds {listed(others)}, which writing it would remove")
    return layout


def check_replaceable(path: Path, layout: str) -> None:
    """Raise OptionError if saving in a layout would remove what this package never wrote."""
    if not path.is_dir():
        return
    if layout in ("paw", "gguf"):
        raise OptionError(f"{path} is a folder", hint="Name a file in it.")
    with read_errors(path):
        names = sorted(entry.name for entry in path.iterdir())
    others = [name for name in names if name not in _OURS and not is_litter(name)]
    if others:
        raise OptionError(
            f"{path} also holds {listed(others)}, which saving would remove",
            hint="Name a new folder.",
        )
