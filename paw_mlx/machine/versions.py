"""Which packages are installed, in which versions, and which versions this one takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from . import tools


def version_of(package: str) -> str | None:
    """Return a package's version, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def wheel_of(package: str) -> str | None:
    """Return the platform of the wheel that a package came in; None if it came in none."""
    try:
        return platform_tag(metadata.distribution(package).read_text("WHEEL") or "")
    except metadata.PackageNotFoundError:
        return None


def platform_tag(wheel: str) -> str | None:
    """Return the platform of a WHEEL file's first tag: `macosx_26_0_arm64`."""
    match = re.search(r"^Tag: [^-\s]+-[^-\s]+-(\S+)", wheel, re.M)
    return match[1] if match else None


def pins_of(package: str, system: str) -> dict[str, str]:
    """Return the versions that a package needs of others; none where it is not installed."""
    try:
        return pins_in(metadata.requires(package) or [], system)
    except metadata.PackageNotFoundError:
        return {}


def pins_in(requirements: Sequence[str], system: str) -> dict[str, str]:
    """Return the versions in requirements, without those of extras and of other systems.

    `system` is one as `sys.platform` has it.
    """
    found = {}
    for requirement in requirements:
        what, _, marker = requirement.partition(";")
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*(.*)", what.strip())
        if match and "extra" not in marker and ("sys_platform" not in marker or system in marker):
            found[match[1]] = match[2]
    return found


def fits(version: str, pin: str) -> bool:
    """Return whether a version is within bounds such as `>=0.32.2,<0.33`."""
    bounds = re.findall(r"(>=|<)\s*([\d.]+)", pin)
    return all((_release(version) >= _release(bound)) == (sign == ">=") for sign, bound in bounds)


def _release(version: str) -> tuple[int, ...]:
    """Return `0.33.0.dev1` as (0, 33, 0, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    return tuple([*numbers, 0, 0, 0, 0][:4])


def commit_of(module: Path) -> str | None:
    """Return the commit of the checkout that a module belongs to, `-dirty` if files changed."""
    # Only in a checkout: without Apple's developer tools, macOS answers `git` with a dialog.
    if not any((folder / ".git").exists() for folder in module.parents):
        return None
    git = ("git", "-C", str(module.parent))
    if tools.output(*git, "ls-files", "--error-unmatch", module.name) is None:
        return None  # an environment inside somebody else's checkout
    named = tools.output(*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return named.strip() if named else None
