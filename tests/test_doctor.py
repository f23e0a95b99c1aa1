"""`paw-mlx doctor`: as a command of its own, and its checks on machines that are not here."""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import Hub, serving_hub

from paw_mlx import settings, wheels
from paw_mlx.benchmarks.machine import Hardware, Library
from paw_mlx.cli import doctor as cli
from paw_mlx.cli.checks import OK, PROBLEM, WARNING, Facts, Folder, checks, fits
from paw_mlx.errors import OptionError
from paw_mlx.hub import Installed

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CALL = "from paw_mlx.cli.doctor import command; command(prog_name='paw-mlx doctor')"
# An import of MLX fails, as it does where no wheel fits.
BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "mlx":
            raise ImportError("dlopen(core.so): incompatible architecture")

sys.meta_path.insert(0, Blocker())
"""
INSTALL = cli._installer()
NOBODY = "http://127.0.0.1:9"  # the port that discards


def doctor(*words, before="", hub=NOBODY, **environment):
    """The command in a process of its own."""
    extra = {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub, "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-c", before + CALL, *words],
        env=os.environ | extra | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def record(done):
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    return found, {check["name"]: check for check in found["checks"]}


def test_as_json_it_is_one_line_with_machine_folders_and_checks():
    kept = settings.cache_dir() / "prefixes" / "some.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(bytes(2_000_000))
    answers = settings.cache_dir() / "accuracy" / "a.programs" / "b.paw"
    answers.parent.mkdir(parents=True)
    answers.write_bytes(bytes(3_000_000))
    done = doctor("--json")
    found, named = record(done)
    assert (done.returncode, done.stderr, found["ok"]) == (0, "", True)
    assert found["machine"]["device"] == "cpu"
    assert found["limits"]["memory_bytes"] == found["machine"]["memory_bytes"] > 0
    assert found["folders"]["data"]["path"] == str(settings.data_dir())
    parts = found["folders"]["cache"]["parts"]
    assert (parts["prefixes"], parts["accuracy"]) == (2_000_000, 3_000_000)
    assert found["bases"] == found["compilers"] == []
    assert named["mlx"]["state"] == OK
    assert named["mlx"]["message"].startswith("0.32")
    assert named["bases"]["state"] == WARNING
    assert named["bases"]["hint"] == "paw-mlx pull smollm2-135m"
    assert set(named["bases"]) == {"name", "state", "message", "hint"}


def test_as_text_it_is_a_line_for_each_check_and_an_arrow_before_a_command():
    done = doctor()
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.split()[0] in (OK, WARNING, "→") for line in lines)
    (at,) = (i for i, line in enumerate(lines) if line.split()[1] == "bases")
    assert lines[at].split()[0] == WARNING
    assert lines[at + 1].split(maxsplit=1) == ["→", "paw-mlx pull smollm2-135m"]
    assert lines[at + 1].index("→") == lines[at].index("none is installed")
    assert "\x1b" not in done.stdout


def test_without_mlx_that_is_the_problem_and_all_else_is_told():
    done = doctor("--json", before=BLOCKED)
    found, named = record(done)
    assert (done.returncode, done.stderr, found["ok"]) == (1, "", False)
    assert named["mlx"]["state"] == PROBLEM
    assert "cannot be imported: dlopen(core.so): incompatible arch" in named["mlx"]["message"]
    assert named["mlx"]["hint"].startswith(f"{INSTALL} --force-reinstall")
    assert {"chip", "memory", "hub", "data", "bases"} <= set(named)
    assert "gpu" not in named
    text = doctor(before=BLOCKED)
    assert text.returncode == 1
    assert f"{PROBLEM}  mlx" in text.stdout
    assert text.stderr == ""


def test_a_hub_that_answers_is_in_reach_even_with_an_error():
    with serving_hub(Hub()) as server:
        _, named = record(doctor("--json", hub=server.url))
    assert (named["hub"]["state"], named["hub"]["message"]) == (OK, "in reach")
    assert [method for method, _, _ in server.log] == ["HEAD"]


@pytest.mark.parametrize("address", [NOBODY, "nonsense"])
def test_a_hub_out_of_reach_is_a_warning(address):
    done = doctor("--json", hub=address)
    _, named = record(done)
    assert (done.returncode, named["hub"]["state"]) == (0, WARNING)
    assert named["hub"]["message"].startswith(f"cannot reach the hub at {address}: ")
    assert named["hub"]["hint"] == "export PAW_OFFLINE=1"


def test_a_hub_that_is_silent_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = doctor("--json", hub=f"http://127.0.0.1:{silent.getsockname()[1]}")
    _, named = record(done)
    assert (done.returncode, named["hub"]["state"]) == (0, WARNING)
    assert done.stderr == ""


def test_a_name_server_that_is_silent_is_not_waited_for():
    asleep = "import time\nfrom paw_mlx.hub import client\n"
    asleep += "client.unreachable = lambda timeout_s: time.sleep(300)\n"
    done = doctor("--json", before=asleep)
    _, named = record(done)
    assert (done.returncode, named["hub"]["state"]) == (0, WARNING)
    assert named["hub"]["message"].startswith("the hub did not answer in 3 s")


@pytest.mark.parametrize("name", ["PAW_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nobody_is_asked_and_a_base_is_needed(name):
    with serving_hub(Hub()) as server:
        done = doctor("--json", hub=server.url, **{name: "1"})
    found, named = record(done)
    assert server.log == []
    assert named["hub"]["state"] == OK
    assert named["hub"]["message"].startswith("offline")
    assert (done.returncode, found["ok"], named["bases"]["state"]) == (1, False, PROBLEM)
    assert named["bases"]["hint"] == (
        "env -u PAW_OFFLINE -u HF_HUB_OFFLINE paw-mlx pull smollm2-135m"
    )


def test_a_damaged_base_is_seen():
    path = wheels._path("smollm2-135m")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    _, named = record(doctor("--json"))
    assert named["bases"]["state"] == WARNING
    assert "is damaged: 4 bytes, not 98362432" in named["bases"]["message"]
    assert named["bases"]["hint"] == "paw-mlx pull smollm2-135m"


def test_a_gpu_that_is_asked_for_and_not_there_is_a_problem():
    done = doctor("--json", PAW_MLX_DEVICE="gpu")
    _, named = record(done)
    if done.returncode == 0:
        pytest.skip("there is a GPU here")
    assert (named["gpu"]["state"], named["gpu"]["hint"]) == (PROBLEM, "export PAW_MLX_DEVICE=cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="a BLAS is loaded on Linux only")
def test_without_a_blas_a_command_brings_one():
    done = doctor("--json", PAW_MLX_BLAS="none")
    _, named = record(done)
    assert (done.returncode, named["blas"]["state"]) == (0, WARNING)
    assert named["blas"]["hint"] == "unset PAW_MLX_BLAS"


def test_a_setting_that_is_wrong_is_an_error_as_everywhere():
    done = doctor(PAW_MLX_DEVICE="tpu")
    assert done.returncode == 1
    assert done.stderr.startswith("error: PAW_MLX_DEVICE is 'tpu'")


def test_a_home_that_nobody_knows_is_an_error_as_everywhere(monkeypatch):
    done = doctor("--json", PAW_MLX_HOME="~nosuchuser/x")
    assert (done.returncode, done.stderr) == (1, "")
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "OptionError"
    assert error["message"].startswith("PAW_MLX_HOME is '~nosuchuser/x'")
    monkeypatch.setenv("PAW_MLX_EVAL_DATA", "~nosuchuser/x")
    with pytest.raises(OptionError, match="PAW_MLX_EVAL_DATA"):
        settings.eval_data()

    def nobody(uid):
        raise KeyError(uid)

    for name in ("PAW_MLX_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for folder in (settings.data_dir, settings.cache_dir):
        with pytest.raises(OptionError, match="HOME is not set"):
            folder()


def test_a_file_where_a_folder_should_be_is_a_problem(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    done = doctor("--json", PAW_MLX_HOME=str(file))
    _, named = record(done)
    assert done.returncode == 1
    for name in ("data", "cache"):
        assert named[name]["state"] == PROBLEM
        assert named[name]["message"] == f"{file} is a file, and has to be a folder"
        assert named[name]["hint"] == "export PAW_MLX_HOME=~/paw-mlx"


def test_packages_are_installed_with_what_this_python_has(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/my env/bin/python")
    have = {"pip", "uv"}
    monkeypatch.setattr(cli.wheels, "has_pip", lambda: "pip" in have)
    monkeypatch.setattr(cli.shutil, "which", lambda name: name if name in have else None)
    assert cli._installer() == "'/my env/bin/python' -m pip install"
    have.remove("pip")
    assert cli._installer() == "uv pip install --python '/my env/bin/python'"


def test_what_an_interrupt_left_is_not_installed(tmp_path):
    bases = settings.data_dir() / "bases"
    for folder in (bases / "whole", bases / ".half.partial"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    compiler = settings.data_dir() / "compilers" / ".paw-4b-gpt2-8bit.partial"
    compiler.mkdir(parents=True)
    (compiler / "meta.json").write_text("{}")
    cached, names = tmp_path / "hub", ("config.json", "tokenizer.json", "model.safetensors")
    for repo, files in (("Qwen3-0.6B", names), ("Qwen3-1.7B", names[:2]), ("Qwen3-4B", ())):
        folder = cached / f"models--Qwen--{repo}" / "snapshots" / ("a" * 40)
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).write_text("{}")
        blobs = folder.parents[1] / "blobs"
        blobs.mkdir()
        (blobs / "abc.incomplete").write_text("half")
    found, named = record(doctor("--json", HF_HUB_CACHE=str(cached)))
    assert found["bases"] == ["Qwen/Qwen3-0.6B", "whole"]
    assert (found["compilers"], named["compilers"]["message"][:17]) == ([], "none is installed")


def test_a_hub_that_takes_its_time_is_in_reach():
    late = "import time\nfrom paw_mlx.hub import client\n"
    late += "client.unreachable = lambda timeout_s: time.sleep(1.5)\n"
    _, named = record(doctor("--json", before=late))
    assert named["hub"]["state"] == OK


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
    pins=PINS,
    damaged={},
)
LINUX = replace(
    MAC, system="linux", processor="x86_64", mlx=Library("0.32.4", "manylinux_2_35_x86_64")
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
    assert (check.state, check.hint) == (WARNING, "python -m pip install 'paw-mlx[cuda]'")
    assert found(replace(LINUX, nvidia=True, chosen_device="cpu"), "gpu").state == OK


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
    pins = cli.pins_of([*PROJECT["dependencies"], extra], system)
    assert pins.items() >= PINS.items()
    for name in PINS:
        bounds = re.findall(r"[<>=~!]+", pins[name])
        assert set(bounds) <= {">=", "<"}, "which are all that `fits` knows"
