"""A reference becomes a converted compiler on this machine.

What is published is fetched and converted once, in the data folder, under
`compilers/<name>-<bits>bit`; an interrupt leaves what the next run goes on from.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from .. import hub, settings
from ..convert.checkpoint import convert_compiler
from ..errors import OptionError, listed
from ..formats.checkpoint import CompilerMeta, is_converted
from ..profiles import PROFILES, find_profile
from ..wheels import Progress, quiet

BITS = 8  # the encoder is streamed: precision costs disk and a second, not memory


def compiler_for(interpreter: str | None) -> str:
    """The published compiler that writes for an interpreter; OptionError if there is none."""
    profile = find_profile(interpreter) if interpreter else PROFILES["qwen3-0.6b"]
    if profile is None or not profile.compiler:
        have = [p.name for p in PROFILES.values() if p.compiler]
        raise OptionError(
            f"no published compiler writes for {interpreter}",
            hint=f"There are some for {listed(have)}; name another with --compiler, "
            "or make the program from examples with `paw-mlx train`.",
        )
    return profile.compiler.split("/")[-1]


def installed_compiler(
    reference: str,
    bits: int | None = None,
    *,
    offline: bool = False,
    progress: Progress = quiet,
) -> Path:
    """A converted compiler's folder; fetched and converted, to `bits` (8), on first use.

    Raises NotFound, HubError, OfflineError, FormatError or OptionError.
    """
    kept = _kept(reference, bits or BITS)
    if not Path(reference).exists() and is_converted(kept):
        return kept
    source = hub.resolve_compiler(reference, offline=offline, progress=progress)
    if not is_converted(source):
        return Path(convert_compiler(source, kept, bits=bits or BITS, progress=progress))
    conversion = CompilerMeta.read(source).conversion or {}
    if bits and bits != conversion.get("bits"):
        raise OptionError(
            f"{reference} was converted to {conversion.get('bits')} bits, not {bits}",
            hint="Name the compiler as it was published, or leave --bits out.",
        )
    return source


def _kept(reference: str, bits: int) -> Path:
    """Where a conversion lies. Folders of one name are told apart by their paths."""
    path = Path(reference).expanduser()
    stem = path.resolve().name
    if path.exists():
        stem += f"-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    return settings.data_dir() / "compilers" / f"{stem}-{bits}bit"
