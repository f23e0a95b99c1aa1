"""MLX as it is installed, its GPU, and the versions of packages."""

from __future__ import annotations

import re
import subprocess

import pytest

from paw_mlx.machine import mlx_library as library
from paw_mlx.machine import versions

M5_MAX, M5, M4, PHONE = "applegpu_g17s", "applegpu_g17g", "applegpu_g16s", "applegpu_g17p"
WHEEL = "macosx_26_0_arm64"


@pytest.mark.parametrize(
    ("architecture", "os", "wheel", "lacking"),
    [
        (M5_MAX, "macOS 26.2 (25C56)", WHEEL, []),
        ("applegpu_g19d", "macOS 27 (26A1)", "macosx_27_0_arm64", []),
        (M5, "macOS 26.1 (25B78)", WHEEL, ["macOS 26.2"]),
        (M5, "macOS 26.4", "macosx_15_0_arm64", ["MLX's wheel for macOS 26"]),
        (M5, "macOS 15.7", "macosx_15_0_arm64", ["macOS 26.2", "MLX's wheel for macOS 26"]),
        (M5, "macOS 26.2", None, ["MLX's wheel for macOS 26"]),
        (M4, "macOS 26.2", WHEEL, None),
        (PHONE, "macOS 26.2", WHEEL, None),
        ("applegpu_g18p", "macOS 26.2", WHEEL, []),
        ("sm_90", "Linux 6.8", "manylinux_2_35_x86_64", None),
        (None, None, None, None),
    ],
)
def test_matrix_units_need_the_chip_the_system_and_the_wheel(architecture, os, wheel, lacking):
    assert library.matrix_units(architecture, os, wheel) == lacking


def test_the_platform_of_a_wheel():
    wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-macosx_26_0_arm64\n\n"
    assert versions.platform_tag(wheel) == WHEEL
    assert versions.platform_tag("Wheel-Version: 1.0\n") is None


def test_a_gpus_memory_as_metal_and_cuda_tell_it():
    metal = {"max_recommended_working_set_size": 50, "memory_size": 64}
    told = (metal, {"memory_size": 141}, {"total_memory": 141}, {"device_name": "x"})
    assert [library.gpu_bytes_of(one) for one in told] == [50, 141, 141, None]


def git(folder, *words):
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_the_commit_is_that_of_a_checkout_that_holds_this_package(tmp_path):
    module = tmp_path / "machine" / "versions.py"
    module.parent.mkdir()
    module.write_text("one")
    assert versions.commit_of(module) is None  # no checkout
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "Somebody else's")
    assert versions.commit_of(module) is None  # one that knows nothing of us
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "Ours")
    git(tmp_path, "tag", "-a", "v1", "-m", "A tag is no commit")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    assert versions.commit_of(module) == commit
    module.write_text("two")
    assert versions.commit_of(module) == f"{commit}-dirty"
