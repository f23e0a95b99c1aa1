"""A reference becomes a converted compiler on this machine.

What is published is fetched and converted once, in the data folder, under
`compilers/<name>-<bits>bit`; an interrupt leaves what the next run goes on from. `convert` is
imported then: who compiles with what is here never loads it.
"""

from __future__ import annotations

import json
from pathlib import Path

from .. import hub, settings
from ..device import on_gpu
from ..errors import HubError, OptionError, listed
from ..formats.checkpoint import Checkpoint, read_converted
from ..formats.fingerprint import fingerprint
from ..profiles import PROFILES, find_profile
from ..progress import Progress, quiet

EMBEDDED = Path(__file__).with_name("embedded") / "paw-smollm2-135m"
SCORES = "scores.json"
_EMBEDDED_FOR = "smollm2-135m"
BITS = 8  # the encoder is streamed: precision costs disk and a second, not memory


def find_compiler(
    reference: str | None,
    interpreter: str | None,
    bits: int | None = None,
    *,
    offline: bool = False,
    progress: Progress = quiet,
) -> Checkpoint:
    """Return the compiler of a reference, or without one that which writes for an interpreter.

    Without either, the published one for `qwen3-0.6b`; where it is not here and there is no
    network, the embedded one, and `progress` hears of it. Errors as of `installed_compiler`.
    """
    if reference or interpreter:
        reference = reference or compiler_for(interpreter)
        return installed_compiler(reference, bits, offline=offline, progress=progress)
    published = compiler_for(None)
    try:
        return installed_compiler(published, bits, offline=offline, progress=progress)
    except HubError as error:
        progress(f"{error}; compiling with the embedded {EMBEDDED.name}")
        return Checkpoint.read(EMBEDDED)


def caution(compiler: Checkpoint) -> str | None:
    """Say how good the embedded compiler was measured to be, of `bench compile-quality`'s report.

    None for another compiler.
    """
    if compiler.folder != EMBEDDED:
        return None
    report = json.loads((EMBEDDED / SCORES).read_text(encoding="utf-8"))
    found = {
        row["group"]: row
        for row in report["rows"]
        if (row["set"], row["method"]) == ("test", "compiled")
    }
    families = ", ".join(
        f"{group.removeprefix('family: ')} {row['accuracy']:.0%}"
        for group, row in found.items()
        if group.startswith("family: ")
    )
    whole = found["all"]
    return (
        f"by {EMBEDDED.name}, a small one: of {whole['functions']} functions that it never saw its "
        f"programs got {whole['accuracy']:.0%} of the cases right ({families}). "
        f"The 4B compiler writes for a larger base: paw-mlx pull {compiler_for(None)}"
    )


def compiler_for(interpreter: str | None) -> str:
    """Return the compiler that writes for an interpreter; OptionError if none is known."""
    profile = find_profile(interpreter) if interpreter else PROFILES["qwen3-0.6b"]
    if profile and profile.name == _EMBEDDED_FOR:
        return EMBEDDED.name
    if profile is None or not profile.compiler:
        have = [p.name for p in PROFILES.values() if p.compiler]
        raise OptionError(
            f"no published compiler writes for {interpreter}",
            hint=f"There are some for {listed([*have, _EMBEDDED_FOR])}; name another with "
            "--compiler, make one with `paw-mlx train-compiler`, or make the program from examples "
            "with `paw-mlx train`.",
        )
    return profile.compiler.split("/")[-1]


def installed_compiler(
    reference: str,
    bits: int | None = None,
    *,
    offline: bool = False,
    progress: Progress = quiet,
) -> Checkpoint:
    """Return a converted compiler; fetched and converted on first use.

    To `bits`; without, what is here already, or 8. Raises NotFound, HubError, OfflineError,
    DiskError, FormatError or OptionError.
    """
    if reference == EMBEDDED.name:
        return Checkpoint.read(EMBEDDED)
    root, repo = settings.data_dir() / "compilers", hub.compiler_repo(reference)
    stem = str(repo).replace("/", "--") if repo else ""
    for choice in (bits,) if bits else (BITS, 16, 6, 4, 32):
        if repo and (kept := read_converted(root / f"{stem}-{choice}bit")):
            return kept
    source = hub.resolve_compiler(reference, offline=offline, progress=progress)
    if found := read_converted(source):
        have = (found.conversion or {}).get("bits")
        if bits and found.encoder:
            raise OptionError(
                f"{source} reads specs with a base, and has no encoder of {bits} bits",
                hint="Leave --bits out.",
            )
        if bits and bits != have:
            raise OptionError(
                f"{source} was converted to {have} bits, not {bits}",
                hint="Name the compiler as it was published, or leave --bits out.",
            )
        return found
    from ..convert.checkpoint import convert_compiler, stamp_of

    bits = bits or BITS
    # A folder may change under its name, so its conversion is called by what it is made of.
    stem = stem or f"{source.resolve().name}-{stamp_of(source, bits)[:8]}"
    made = convert_compiler(source, root / f"{stem}-{bits}bit", bits=bits, progress=progress)
    if repo:
        progress("the published files can go now: see `paw-mlx ls` and `paw-mlx rm`")
    return Checkpoint.read(made)


def loadable_by_mlx_lm(path: Path, progress: Progress = quiet) -> Path:
    """Return a model's folder for mlx-lm, which loads no GGUF: that is converted once and kept."""
    if path.is_dir():
        return path
    # Without a GPU float32 is the fast path, and packed weights are a hundred times slower.
    bits = None if on_gpu() else 32
    name = f"{path.stem}-{fingerprint(path)[:8]}-mlx{bits or ''}"
    kept = settings.cache_dir() / "bases" / name
    if not kept.exists():
        from ..convert.base import convert_base

        convert_base(path, kept, bits=bits, progress=progress)
    return kept
