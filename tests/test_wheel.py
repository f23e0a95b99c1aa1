"""The wheel as a user gets it: one top-level name, every module, the script.

It is built from a copy of the sources, since setuptools leaves files beside them, and
installed alone into a folder; its dependencies come from the environment of the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
ALONE = ["--no-deps", "--no-index"]


def copy_sources(source: Path) -> None:
    for folder in ("paw_mlx", "convert", "benchmarks", "tests", "examples"):
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=without)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)


def build(source: Path, wheels: Path) -> Path:
    command = [*PIP, "wheel", *ALONE, "--no-build-isolation", "--wheel-dir", wheels, source]
    env = os.environ | {"SOURCE_DATE_EPOCH": "1790000000"}
    subprocess.run(command, check=True, timeout=120, env=env)
    (wheel,) = wheels.iterdir()
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("src")
    copy_sources(source)
    return build(source, tmp_path_factory.mktemp("whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("site")
    subprocess.run([*PIP, "install", *ALONE, "--target", target, wheel], check=True, timeout=120)
    return target


def python(installed: Path, *arguments: str) -> str:
    """Run Python far from the checkout, with the installed wheel first on its path."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=installed.parent,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def metadata(installed: Path) -> PathDistribution:
    (folder,) = installed.glob("paw_mlx-*.dist-info")
    return PathDistribution(folder)


def test_one_top_level_name_is_installed(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert names == {"paw_mlx", "bin", "share"}


def test_the_man_page_lies_where_man_looks(installed: Path) -> None:
    page = installed / "share" / "man" / "man1" / "paw-mlx.1"
    assert page.read_text() == (ROOT / "paw_mlx" / "cli" / "paw-mlx.1").read_text()


def test_every_module_of_the_tree_is_in_the_wheel(installed: Path) -> None:
    tree = {file.relative_to(ROOT) for file in (ROOT / "paw_mlx").rglob("*.py")}
    for folder in ("convert", "benchmarks"):
        files = (ROOT / folder).rglob("*.py")
        tree |= {Path("paw_mlx", file.relative_to(ROOT)) for file in files}
    assert {file.relative_to(installed) for file in installed.rglob("paw_mlx/**/*.py")} == tree
    assert (installed / "paw_mlx" / "py.typed").is_file()


def test_a_wheel_built_elsewhere_and_of_younger_files_has_the_same_bytes(
    wheel: Path, tmp_path: Path
) -> None:
    source = tmp_path / "elsewhere"
    source.mkdir()
    copy_sources(source)
    for file in source.rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    assert build(source, tmp_path / "wheels").read_bytes() == wheel.read_bytes()


def test_licence_and_metadata_travel_along(installed: Path) -> None:
    wheel = metadata(installed)
    assert wheel.metadata["License-Expression"] == "MIT"
    assert "MIT License" in (wheel.read_text("licenses/LICENSE") or "")
    needed = [re.split("[<>=;]", line)[0] for line in wheel.requires or () if "extra" not in line]
    assert {"mlx", "mlx[cpu]", "mlx-lm", "click"} <= set(needed)
    assert not {"torch", "transformers", "mkl"} & set(needed)


def test_the_wheel_imports_by_itself(installed: Path) -> None:
    names = "paw_mlx, paw_mlx.convert, paw_mlx.benchmarks, paw_mlx.interpreter"
    source = f"import {names}\nfor module in ({names}): print(module.__file__)"
    for line in python(installed, "-c", source).splitlines():
        assert Path(line).is_relative_to(installed / "paw_mlx")


def test_the_script_answers(installed: Path) -> None:
    answer = python(installed, str(installed / "bin" / "paw-mlx"), "--version")
    assert metadata(installed).version in answer
