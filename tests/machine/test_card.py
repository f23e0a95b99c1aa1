"""The card of a machine: what does not change while a process runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorded import DISPLAYS, GIB, IOREG, SYSCTL

from paw_mlx import machine


@pytest.mark.parametrize(("cores", "memory_gb", "speed"), [(30, 36, 300), (40, 128, 400)])
def test_a_card_tells_both_bins_of_an_m3_max_apart(mac, cores, memory_gb, speed):
    chip = "Apple M3 Max"
    mac(
        sysctl=SYSCTL.format(chip=chip, memory=memory_gb * GIB),
        ioreg=IOREG.format(chip=chip, cores=cores),
    )
    card = machine.card()
    assert (card["chip"], card["model"], card["gpu_cores"]) == (chip, "Mac15,9", cores)
    assert (card["cpu_cores"], card["memory_bytes"]) == (14, memory_gb * GIB)
    assert card["os"] == "macOS 26.2 (25C56)"
    assert card["bandwidth_gb_s"] == speed
    assert json.loads(json.dumps(card)) == card


def test_gpu_cores_come_from_system_profiler_where_ioreg_has_none(mac):
    sysctl = SYSCTL.format(chip="Apple M3 Max", memory=96 * GIB)
    mac(sysctl=sysctl, ioreg="\n", displays=json.dumps(DISPLAYS))
    assert machine.system().gpu_cores == 40
    assert machine.card()["bandwidth_gb_s"] == 400


def test_a_mac_without_its_tools_is_a_card_of_nones(mac):
    mac()
    assert machine.system() == machine.Hardware(os="macOS")
    card = machine.card()
    assert card["chip"] is card["bandwidth_gb_s"] is card["gpu_cores"] is None
    told = machine.condition()
    assert told["power"] is told["power_mode"] is told["thermal"] is None


def test_an_ambiguous_chip_is_a_range_and_a_future_one_unknown(mac):
    mac(sysctl=SYSCTL.format(chip="Apple M3 Max", memory=100 * GIB))
    assert machine.card()["bandwidth_gb_s"] == [300, 400]
    machine.system.cache_clear()
    future = "Apple M9 Max"
    mac(
        sysctl=SYSCTL.format(chip=future, memory=256 * GIB),
        ioreg=IOREG.format(chip=future, cores=48),
    )
    card = machine.card()
    assert (card["chip"], card["gpu_cores"], card["bandwidth_gb_s"]) == (future, 48, None)


@pytest.mark.parametrize(
    ("architecture", "wheel", "verdict"),
    [
        ("applegpu_g17s", "macosx_26_0_arm64", True),
        ("applegpu_g17s", "macosx_15_0_arm64", False),
        ("applegpu_g16s", "macosx_26_0_arm64", None),
    ],
)
def test_a_card_says_whether_matrix_units_are_reached(
    mac, monkeypatch, architecture, wheel, verdict
):
    mac(sysctl=SYSCTL.format(chip="Apple M5 Max", memory=64 * GIB))
    library = machine.Library(device="gpu", architecture=architecture, wheel=wheel)
    monkeypatch.setattr(machine, "mlx", lambda: library)
    assert machine.card()["matrix_units"] is verdict


@pytest.mark.parametrize(
    ("library", "limit"),
    [
        (machine.Library(device="gpu", gpu_bytes=50), 50),
        (machine.Library(device="gpu"), 900),  # a GPU that does not say
        (machine.Library(device="cpu", gpu_bytes=50), 900),
    ],
)
def test_a_model_may_take_what_the_gpu_lends_or_most_of_the_memory(monkeypatch, library, limit):
    monkeypatch.setattr(machine, "mlx", lambda: library)
    monkeypatch.setattr(machine, "system", lambda: machine.Hardware(memory_bytes=1000))
    assert machine.limit_bytes() == limit
    monkeypatch.setattr(machine, "system", machine.Hardware)
    assert machine.limit_bytes() == (50 if limit == 50 else None)


def test_on_a_mac_whose_cpu_computes_no_bandwidth_is_the_ceiling(mac, monkeypatch):
    mac(sysctl=SYSCTL.format(chip="Apple M4 Pro", memory=24 * GIB))
    assert machine.card()["bandwidth_gb_s"] == 273
    monkeypatch.setattr(machine, "mlx", lambda: machine.Library(device="cpu", gpu="Apple M4 Pro"))
    assert machine.card()["bandwidth_gb_s"] is None


def test_a_gpu_has_its_own_bandwidth_only_if_it_computes(monkeypatch):
    def card(device):
        found = machine.Library("0.32.4", device=device, gpu="NVIDIA H200")
        monkeypatch.setattr(machine, "mlx", lambda: found)
        return machine.card()

    monkeypatch.setattr(machine, "system", lambda: machine.Hardware("AMD EPYC"))
    assert card("gpu")["bandwidth_gb_s"] == 4800
    assert card("cpu")["bandwidth_gb_s"] is None


def test_this_machine_has_a_card(monkeypatch):
    card = machine.card()
    keys = "chip model gpu_cores cpu_cores memory_bytes bandwidth_gb_s os python mlx mlx_lm"
    keys += " paw_mlx wheel device gpu matrix_units blas commit"
    assert list(card) == keys.split()
    assert card["memory_bytes"] > GIB
    assert card["device"] == "cpu"  # as conftest.py has it
    assert card["mlx"].startswith("0.32")
    assert str(Path.home()) not in json.dumps(card)
    assert machine.condition()["load"] >= 0
