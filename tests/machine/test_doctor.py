"""The checks of `paw-mlx doctor`, on machines that are not here."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from paw_mlx.hub import Installed
from paw_mlx.machine import Hardware, Library
from paw_mlx.machine.doctor import OK, PROBLEM, WARNING, checks
from paw_mlx.machine.facts import Facts, Folder
from paw_mlx.machine.versions import fits, pins_in

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
CARD = {
    "chip": "Apple M3 Max",
    "model": "Mac15,9",
    "gpu_cores": 40,
    "cpu_cores": 16,
    "memory_bytes": 64 * 2**30,
    "bandwidth_gb_s": 400,
    "os": "macOS 26.2 (25C56)",
    "python": "3.12.4",
    "mlx_lm": "0.32.2",
    "blas": None,
}
PINS = {"mlx": ">=0.32,<0.33", "mlx-lm": ">=0.32.2,<0.33"}
FOLDER = Folder(Path("/home"), {"bases": 98_400_000, "programs": 0}, 70_000_000_000, True)
BASE = Installed("smollm2-135m", "base", "paw-mlx", 98_362_432, Path("/home/bases"))
MAC = Facts(
    system="darwin",
    processor="arm64",
    card=CARD,
    hardware=Hardware("Apple M3 Max", wired_limit_mb=0),
    mlx=Library(
        "0.32.4", "macosx_26_0_arm64", "gpu", "Apple M3 Max", "applegpu_g15s", 51_500_000_000
    ),
    lacking_units=None,
    nvidia=False,
    chosen_device=None,
    chosen_blas=None,
    offline=False,
    unreachable=None,
    data=FOLDER,
    cache=FOLDER,
    installed=[BASE],
    installer="python -m pip install",
    uninstaller="python -m pip uninstall --yes",
    backends=[],
    pins=PINS,
    damaged={},
)
LINUX = replace(
    MAC,
    system="linux",
    processor="x86_64",
    mlx=Library("0.32.4", "manylinux_2_35_x86_64"),
    backends=["mlx-cpu"],
)


def found(facts, name):
    (check,) = (check for check in checks(facts) if check.name == name)
    return check


def test_a_sound_mac_has_nothing_to_mend():
    named = {check.name: check for check in checks(MAC)}
    assert {check.state for check in named.values()} == {OK}
    chip = "Apple M3 Max, Mac15,9, 16 CPU cores, 40 GPU cores, 400 GB/s"
    assert named["chip"].message == chip
    assert named["gpu"].message == "Apple M3 Max (applegpu_g15s)"
    assert named["matrix units"].message == "none in this GPU: they came with the M5"
    assert named["memory"].message == (
        "68.7 GB; the GPU may use 51.5 GB; iogpu.wired_limit_mb is 0, the system's choice"
    )
    assert named["data"].message == "/home: bases 98.4 MB, programs 0.0 MB; 70.0 GB free"
    assert named["bases"].message == "smollm2-135m"
    assert "blas" not in named


@pytest.mark.parametrize(
    ("speed", "end"),
    [([300, 400], "300 to 400 GB/s, which is not certain"), (None, "that is not known here")],
)
def test_a_bandwidth_is_not_claimed_where_it_is_not_certain(speed, end):
    check = found(replace(MAC, card=CARD | {"bandwidth_gb_s": speed}), "chip")
    assert check.state == OK
    assert check.message.endswith(end)


def test_memory_names_a_limit_that_was_set():
    check = found(replace(MAC, hardware=Hardware(wired_limit_mb=57344)), "memory")
    assert check.message.endswith("iogpu.wired_limit_mb is 57344")


@pytest.mark.parametrize("told", [{"translated": True}, {"chip": "Apple M4"}])
def test_a_python_under_rosetta_is_the_problem_and_not_what_pip_could_mend(told):
    broken = Library(problem="No module named 'mlx'")
    facts = replace(MAC, processor="x86_64", hardware=Hardware(**told), mlx=broken)
    python, mlx = found(facts, "python"), found(facts, "mlx")
    assert (python.state, mlx.state, mlx.message) == (PROBLEM, PROBLEM, "not installed")
    assert "under Rosetta" in python.message
    assert python.hint == "uv venv --python cpython-3.12-macos-aarch64-none"
    assert mlx.hint is None


def test_an_intel_mac_has_no_way_out():
    hardware = Hardware("Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz")
    check = found(replace(MAC, processor="x86_64", hardware=hardware), "python")
    assert (check.state, check.hint) == (PROBLEM, None)


@pytest.mark.parametrize(
    ("lacking", "state", "hint"),
    [
        ([], OK, None),
        (["macOS 26.2"], WARNING, "softwareupdate --list"),
        (
            ["MLX's wheel for macOS 26"],
            WARNING,
            "python -m pip install --force-reinstall --no-cache-dir 'mlx>=0.32,<0.33'",
        ),
    ],
)
def test_matrix_units_out_of_reach_are_a_warning(lacking, state, hint):
    check = found(replace(MAC, lacking_units=lacking), "matrix units")
    assert (check.state, check.hint) == (state, hint)
    assert all(part in check.message for part in lacking)


def test_a_mac_whose_gpu_is_hidden_is_a_problem_unless_the_cpu_was_chosen():
    hidden = Library("0.32.4", device="gpu")
    check = found(replace(MAC, mlx=hidden), "gpu")
    assert (check.state, check.hint) == (PROBLEM, "export PAW_MLX_DEVICE=cpu")
    chosen = replace(MAC, mlx=replace(hidden, device="cpu"), chosen_device="cpu")
    assert found(chosen, "gpu").state == OK
    unused = found(replace(MAC, mlx=replace(MAC.mlx, device="cpu")), "gpu")
    assert unused.state == OK
    assert unused.message.endswith("PAW_MLX_DEVICE has programs run on the CPU")


def test_an_nvidia_gpu_that_lies_idle_is_a_warning():
    check = found(replace(LINUX, nvidia=True), "gpu")
    instead = "python -m pip uninstall --yes mlx-cpu && python -m pip install"
    assert (check.state, check.hint) == (WARNING, f"{instead} 'mlx[cuda13]>=0.32,<0.33'")
    assert found(replace(LINUX, nvidia=True, chosen_device="cpu"), "gpu").state == OK


@pytest.mark.parametrize(("nvidia", "extra"), [(False, "cpu"), (True, "cuda13")])
def test_two_builds_of_mlx_in_each_others_place_are_a_problem(nvidia, extra):
    both = ["mlx-cpu", "mlx-cuda-13"]
    check = found(replace(LINUX, nvidia=nvidia, backends=both), "mlx")
    assert (check.state, check.message[:23]) == (PROBLEM, "mlx-cpu, mlx-cuda-13 ha")
    assert check.hint == (
        "python -m pip uninstall --yes mlx-cpu mlx-cuda-13 && "
        f"python -m pip install 'mlx[{extra}]>=0.32,<0.33'"
    )
    broken = replace(LINUX, mlx=Library("0.32.4", problem="no"), backends=["mlx-cuda-12"])
    assert "'mlx[cuda12]>=0.32,<0.33'" in found(broken, "mlx").hint


def test_no_extra_brings_a_second_build_of_mlx():
    """pip and uv install an extra beside what the package itself needs, never in its place."""
    extras = PROJECT["optional-dependencies"]
    builds = [one for group in extras.values() for one in group if one.startswith("mlx")]
    builds += [one for one in PROJECT["dependencies"] if re.match(r"mlx\W", one) and "linux" in one]
    assert len([one for one in builds if not one.startswith("mlx-lm")]) == 1


@pytest.mark.parametrize(
    ("changes", "state", "hint"),
    [
        ({}, WARNING, "python -m pip install 'paw-mlx[blas]'"),
        ({"processor": "aarch64"}, WARNING, "apt install libopenblas0"),
        ({"card": CARD | {"blas": "libmkl_rt.so.3"}}, OK, None),
        ({"mlx": Library("0.32.4", device="gpu", gpu="NVIDIA H200")}, OK, None),
        (
            {"mlx": Library("0.32.4", device="gpu")},
            WARNING,
            "python -m pip install 'paw-mlx[blas]'",
        ),
    ],
)
def test_a_blas_is_wanted_where_the_cpu_computes(changes, state, hint):
    check = found(replace(LINUX, **changes), "blas")
    assert (check.state, check.hint) == (state, hint)


def test_on_linux_mlx_comes_back_with_its_backend():
    check = found(replace(LINUX, mlx=Library("0.32.4", problem="libmlx.so: no file")), "mlx")
    assert check.hint == (
        "python -m pip install --force-reinstall --no-cache-dir 'mlx[cpu]>=0.32,<0.33'"
    )


@pytest.mark.parametrize(
    ("folder", "message", "hint"),
    [
        (replace(FOLDER, writable=False), "cannot be written", "export PAW_MLX_HOME=~/paw-mlx"),
        (replace(FOLDER, free_bytes=100_000_000), "; 0.1 GB free", "paw-mlx rm NAME"),
    ],
)
def test_a_folder_without_room_or_rights_is_a_warning(folder, message, hint):
    check = found(replace(MAC, cache=folder), "cache")
    assert check.state == WARNING
    assert check.message.endswith(message)
    assert check.hint is not None
    assert check.hint.startswith(hint)


def test_what_is_installed_is_named_once_and_a_quantized_form_is_no_base():
    quantized = replace(BASE, name="SmolLM2-4bit", source="quantized")
    compiler = Installed("paw-4b-gpt2-8bit", "compiler", "converted", 1, Path("/home/compilers"))
    cached = replace(BASE, source="huggingface")
    both = replace(MAC, installed=[BASE, cached, quantized, compiler])
    assert found(both, "bases").message == "smollm2-135m"
    assert found(both, "compilers").message == "paw-4b-gpt2-8bit"
    assert found(replace(MAC, installed=[quantized]), "bases").state == WARNING


def test_mlx_lm_is_missed_by_the_compiler_alone():
    check = found(replace(MAC, card=CARD | {"mlx_lm": None}), "mlx-lm")
    assert check.state == WARNING
    assert check.hint == "python -m pip install 'mlx-lm>=0.32.2,<0.33'"


@pytest.mark.parametrize("os", ["macOS 13.6 (22G120)", "macOS 12"])
def test_macos_before_14_is_the_problem_and_not_what_pip_could_mend(os):
    facts = replace(MAC, card=CARD | {"os": os}, mlx=Library(problem="No module named 'mlx'"))
    system, mlx = found(facts, "system"), found(facts, "mlx")
    assert (system.state, system.hint) == (PROBLEM, "softwareupdate --list")
    assert system.message == f"{os}: MLX runs on macOS 14 and newer"
    assert (mlx.state, mlx.hint) == (PROBLEM, None)
    for other in ("macOS 14.0", "macOS", "Debian 12 (Linux 6.8)"):
        assert found(replace(MAC, card=CARD | {"os": other}), "system").state == OK


def test_versions_that_this_package_does_not_take_are_told():
    old = replace(MAC, card=CARD | {"mlx_lm": "0.20.1"}, mlx=replace(MAC.mlx, version="0.33.1"))
    mlx, mlx_lm = found(old, "mlx"), found(old, "mlx-lm")
    assert (mlx.state, mlx_lm.state) == (PROBLEM, WARNING)
    assert mlx.message == "0.33.1, and paw-mlx needs >=0.32,<0.33"
    assert mlx.hint is not None
    assert mlx.hint.endswith("--force-reinstall --no-cache-dir 'mlx>=0.32,<0.33'")
    assert mlx_lm.message == "0.20.1, and paw-mlx needs >=0.32.2,<0.33"
    assert mlx_lm.hint == "python -m pip install 'mlx-lm>=0.32.2,<0.33'"
    unknown = replace(old, pins={})  # a checkout that is not installed
    assert (found(unknown, "mlx").state, found(unknown, "mlx-lm").state) == (OK, OK)


@pytest.mark.parametrize(
    ("version", "fit"),
    [
        *(("0.32.2", True), ("0.32.10", True), ("0.32.2.dev3+abc", True)),
        *(("0.32", False), ("0.33", False), ("0.33.0rc1", False), ("1.0", False)),
    ],
)
def test_a_version_is_within_its_bounds(version, fit):
    assert fits(version, ">=0.32.2,<0.33") is fit
    assert fits(version, "<0.33,>=0.32.2") is fit
    assert fits(version, "")


@pytest.mark.parametrize("system", ["darwin", "linux"])
def test_the_pins_are_the_packages_own(system):
    extra = 'mlx[cuda13]<0.99; sys_platform == "linux" and extra == "cuda"'
    pins = pins_in([*PROJECT["dependencies"], extra], system)
    assert pins.items() >= PINS.items()
    for name in PINS:
        bounds = re.findall(r"[<>=~!]+", pins[name])
        assert set(bounds) <= {">=", "<"}, "which are all that `fits` knows"
