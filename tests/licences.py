"""What an installation brings, and under which licences: read from installed metadata, offline."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# As metadata says it: SPDX ids, classifiers, and what older packages write.
_PERMISSIVE = """
    MIT | MIT-0 | MIT-CMU | 0BSD | BSD-2-Clause | BSD-3-Clause | Apache-2.0 | ISC | Zlib | CC0-1.0
    | PSF-2.0 | CNRI-Python
    | MIT License | BSD License | Apache Software License | ISC License (ISCL)
    | Python Software Foundation License
    | 3-Clause BSD License | Apache 2.0 License | Apache 2.0
"""
# Copyleft by the file: what is not changed asks for nothing.
_BY_FILE = "MPL-2.0 | Mozilla Public License 2.0 (MPL 2.0)"
ALLOWED = {name.strip() for name in f"{_PERMISSIVE}|{_BY_FILE}".split("|")}

# All licences of an expression have to be allowed, be they joined by AND or by OR.
_JOINED = re.compile(r"\s+(?:AND|OR)\s+|[()]")

# Intel's libraries may be passed on, but are not open: the extra `blas` alone brings them, on
# Linux with x86-64 alone.
INTEL = {"intel-cmplr-lib-ur", "intel-openmp", "mkl", "tbb", "tcmlib", "umf"}


def requirements(extra: str = "") -> list[Requirement]:
    """What pyproject.toml asks for: plainly, or by an extra alone."""
    asked = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return [Requirement(line) for line in asked]


def brought(extra: str = "") -> dict[str, Distribution | None]:
    """What an installation with an extra brings to this machine; None for what is not here."""
    found: dict[str, Distribution | None] = {}
    ahead = [*requirements(), *(requirements(extra) if extra else [])]
    seen: set[tuple[str, str]] = set()
    while ahead:
        wanted = ahead.pop()
        name = canonicalize_name(wanted.name)
        for one in ("", *wanted.extras):
            if (name, one) in seen or not (wanted.marker is None or wanted.marker.evaluate()):
                continue
            seen.add((name, one))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                found[name] = None
                continue
            ahead += [_of_extra(line, one) for line in found[name].requires or ()]
    return found


def _of_extra(line: str, extra: str) -> Requirement:
    """A requirement of a package's, without a marker where it holds for an extra of it here."""
    wanted = Requirement(line)
    if wanted.marker and wanted.marker.evaluate({"extra": extra}):
        wanted.marker = None
    return wanted


def refused(package: Distribution) -> str | None:
    """What a package says of its licence where that is not allowed; None where it is."""
    says = package.metadata
    lines = says.get_all("Classifier") or ()
    classifiers = [line.split(" :: ")[-1] for line in lines if line.startswith("License")]
    first = (says.get("License") or "").partition("\n")[0]
    for said in (
        _JOINED.split(says.get("License-Expression") or ""),
        classifiers,
        _JOINED.split(first),
    ):
        if names := {name.strip() for name in said} - {"", "UNKNOWN"}:
            return ", ".join(sorted(names - ALLOWED)) or None
    return "nothing"
