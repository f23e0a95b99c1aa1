"""`paw-mlx doctor` as a command of its own: what it gathers here, and how it tells it."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import Hub, serving_hub

from paw_mlx import settings, wheels
from paw_mlx.errors import OptionError
from paw_mlx.machine.doctor import OK, PROBLEM, WARNING
from paw_mlx.machine.facts import installer, uninstaller

ROOT = Path(__file__).parents[2]
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
INSTALL = installer()
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
    name = Path(wheels.WHEELS["smollm2-135m"].member).name
    path = settings.data_dir() / "bases" / "smollm2-135m" / name
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
    monkeypatch.setattr(sys, "prefix", "/nowhere/.venv")
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
    monkeypatch.setattr(wheels, "has_pip", lambda: "pip" in have)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in have else None)
    assert installer() == "'/my env/bin/python' -m pip install"
    assert uninstaller() == "'/my env/bin/python' -m pip uninstall --yes"
    have.remove("pip")
    assert installer() == "uv pip install --python '/my env/bin/python'"
    assert uninstaller() == "uv pip uninstall --python '/my env/bin/python'"


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
