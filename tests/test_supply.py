"""What an installation brings: pinned with hashes, of licences that are known, and audited.

Nothing here asks the network: the locks are read, and the metadata of what is installed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from licences import INTEL, PROJECT, ROOT, brought, refused, requirements
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = {"requirements.txt": [""], "requirements-dev.txt": ["", "blas", "dev", "docs"]}
# These two come with the oracles; tests/parity asks for their licences.
LATER = {"mcp", "ray"}


def locked(file: str) -> dict[str, dict[str, int]]:
    """The packages of a lock: their versions, and how many hashes each has."""
    found: dict[str, dict[str, int]] = {}
    name = version = ""
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if pinned := re.fullmatch(r"([\w.-]+)==(\S+)(?: ; [^\\]+)?(?: \\)?", line):
            name, version = pinned.groups()
            found.setdefault(name, {})[version] = 0
        elif re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}(?: \\)?", line):
            found[name][version] += 1
        else:
            assert line.startswith("#"), line
    return found


@pytest.mark.parametrize("file", LOCKS)
def test_every_package_of_a_lock_has_hashes(file: str) -> None:
    packages = locked(file)
    assert len(packages) > 30
    bare = [name for name, versions in packages.items() if not all(versions.values())]
    assert bare == []


@pytest.mark.parametrize("file", LOCKS)
def test_a_lock_is_within_the_bounds_of_pyproject(file: str) -> None:
    """If this fails, pyproject.toml has changed: `make lock`."""
    packages = locked(file)
    for extra in LOCKS[file]:
        for wanted in requirements(extra):
            versions = packages.get(canonicalize_name(wanted.name), {})
            assert versions, f"{wanted} is not in {file}"
            assert all(wanted.specifier.contains(one) for one in versions), (str(wanted), versions)


@pytest.mark.parametrize("file", LOCKS)
def test_a_lock_lacks_nothing_that_is_brought_here(file: str) -> None:
    for extra in LOCKS[file]:
        assert set(brought(extra)) - set(locked(file)) == set(), extra


def test_the_locks_and_the_oracles_agree() -> None:
    plain, dev = locked("requirements.txt"), locked("requirements-dev.txt")
    assert {name: list(dev[name]) for name in plain} == {name: list(plain[name]) for name in plain}
    lines = (ROOT / "tests/parity/requirements.txt").read_text(encoding="utf-8").splitlines()
    oracles = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for oracle in oracles:
        assert re.fullmatch(r"==[\w.]+", str(oracle.specifier)), f"{oracle} is not pinned"
        for version in dev.get(canonicalize_name(oracle.name), {}):
            assert oracle.specifier.contains(version), oracle


@pytest.mark.parametrize("extra", ["", *sorted(set(PROJECT["optional-dependencies"]) - LATER)])
def test_licences_are_among_those_allowed(extra: str) -> None:
    packages = brought(extra)
    absent = [name for name, package in packages.items() if package is None]
    assert absent == [], f"not installed, so not looked at: {absent}"
    bad = {
        name: said for name, package in packages.items() if package and (said := refused(package))
    }
    assert bad.keys() <= (INTEL if extra == "blas" else set()), bad


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("License-Expression: MIT", None),
        ("License-Expression: (MIT OR Apache-2.0) AND BSD-3-Clause", None),
        ("License-Expression: MIT AND GPL-3.0-only", "GPL-3.0-only"),
        ("License-Expression: MIT OR GPL-3.0-only", "GPL-3.0-only"),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", "GNU Affe"),
        ("License: Proprietary", "Proprietary"),
        ("License: UNKNOWN", "nothing"),
    ],
)
def test_a_licence_that_nobody_allowed_is_noticed(
    tmp_path: Path, metadata: str, said: str | None
) -> None:
    (tmp_path / "METADATA").write_text(f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{metadata}\n")
    found = refused(PathDistribution(tmp_path))
    assert found is None if said is None else found and found.startswith(said)


def test_every_promise_names_a_test_that_is_there() -> None:
    """SECURITY.md and docs/security.md say which test holds what."""
    texts = [
        (ROOT / name).read_text(encoding="utf-8") for name in ("SECURITY.md", "docs/security.md")
    ]
    named = re.findall(r"`(tests/[^`]+)`(?: `(test_\w+)`)?", "".join(texts))
    assert len(named) > 50
    for file, test in named:
        assert (ROOT / file).exists(), file
        assert not test or f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), test


UNKNOWN = {"name": "one", "skip_reason": "Dependency not found on PyPI"}
SOUND = {"name": "two", "version": "2.0", "vulns": []}
ADVISORY = {"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}
WEAK = {"name": "three", "version": "1.0", "vulns": [ADVISORY]}


def answer(*packages: dict[str, object]) -> str:
    """A `pip_audit` module that prints what pip-audit prints of such packages."""
    return f"print({json.dumps(json.dumps({'dependencies': packages, 'fixes': []}))})"


@pytest.mark.parametrize(
    ("pip_audit", "code", "line"),
    [
        (answer(SOUND, SOUND), 0, "audit: 0 advisories for 2 packages"),
        (answer(SOUND, WEAK), 1, "three 1.0: PYSEC-2026-1, mended in 1.1"),
        (answer(SOUND, UNKNOWN), 0, "audit: 0 advisories for 1 packages, 1 are unknown"),
        (answer(UNKNOWN, UNKNOWN), 0, "audit: nothing was audited: its service knows none of 2"),
        (
            "import sys\nsys.exit('requests.exceptions.ConnectionError: no route to host')",
            0,
            "audit: nothing was audited, its service cannot be reached: requests.exc",
        ),
        (
            "import sys\nsys.exit('pip_audit._service.interface.ServiceError')",
            0,
            "audit: nothing was audited, its service cannot be reached: pip_audit",
        ),
        ("import sys\nsys.exit('ERROR: not pinned')", 1, "audit: pip-audit failed: ERROR: not"),
    ],
)
def test_an_audit_fails_for_advisories_and_says_when_there_was_none(
    tmp_path: Path, pip_audit: str, code: int, line: str
) -> None:
    (tmp_path / "pip_audit.py").write_text(pip_audit)
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit.py", "requirements.txt"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith(line), done.stdout
