"""What a machine says of itself, read from recorded outputs; the process's footprint."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from paw_mlx.benchmarks import chips, machine, memory
from paw_mlx.benchmarks.chips import bandwidth

GIB = 2**30

SYSCTL = """\
machdep.cpu.brand_string: {chip}
hw.model: Mac15,9
hw.memsize: {memory}
hw.physicalcpu: 14
kern.osproductversion: 26.2
kern.osversion: 25C56
iogpu.wired_limit_mb: 0
sysctl.proc_translated: 0
"""
IOREG = """\
+-o AGXAcceleratorG15X  <class AGXAcceleratorG15X, id 0x10000039c, registered, matched, active>
    {{
      "IOMatchedAtBoot" = Yes
      "PerformanceStatistics" = {{"Alloc system memory"=2181693440,"Device Utilization %"=30}}
      "model" = "{chip}"
      "gpu-core-count" = {cores}
    }}
"""
DISPLAYS = {
    "SPDisplaysDataType": [
        {
            "_name": "Apple M3 Max",
            "spdisplays_vendor": "sppci_vendor_Apple",
            "sppci_bus": "spdisplays_builtin",
            "sppci_cores": "40",
            "sppci_model": "Apple M3 Max",
        }
    ]
}
PMSET = """\
System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 sleep                1 (sleep prevented by caffeinate, powerd)
 lowpowermode         {low}
 womp                 1
"""
BATTERY = """\
Now drawing from 'Battery Power'
 -InternalBattery-0 (id=24182883)	72%; discharging; 3:15 remaining present: true
"""
NO_WARNINGS = """\
Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""
LIMITS = """\
Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
2026-08-20 05:08:37 -0700 CPU Power notify
	CPU_Scheduler_Limit 	= {scheduler}
	CPU_Available_CPUs 	= 12
	CPU_Speed_Limit 	= {speed}
"""
WARNED = """\
2026-09-23 14:05:31 -0700 Thermal Warning Level = 70
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""


@pytest.fixture(autouse=True)
def forgetful():
    """What is asked once per process is asked anew in each test."""
    asked = machine.system, machine.mlx
    for one in asked:
        one.cache_clear()
    yield
    for one in asked:
        one.cache_clear()


COMMANDS = {
    "sysctl": ("/usr/sbin/sysctl", *machine._SYSCTL),
    "ioreg": ("/usr/sbin/ioreg", "-rc", "AGXAccelerator", "-d1"),
    "displays": ("/usr/sbin/system_profiler", "SPDisplaysDataType", "-json"),
    "pmset": ("/usr/bin/pmset", "-g"),
    "batt": ("/usr/bin/pmset", "-g", "batt"),
    "therm": ("/usr/bin/pmset", "-g", "therm"),
}


@pytest.fixture
def mac(monkeypatch):
    """A Mac whose tools print what they are given; what is not given is not there."""

    def make(**printed):
        told = {COMMANDS[name]: text for name, text in printed.items()}
        monkeypatch.setattr(machine, "_output", lambda *command: told.get(command))
        monkeypatch.setattr(machine, "sys", SimpleNamespace(platform="darwin"))
        monkeypatch.setattr(machine, "mlx", lambda: machine.Library(device="gpu"))

    return make


@pytest.mark.parametrize(
    ("chip", "cores", "memory_gb", "expected"),
    [
        ("Apple M3 Max", 30, 96, 300),
        ("Apple M3 Max", 40, 64, 400),
        ("Apple M3 Max", 30, None, 300),
        ("Apple M3 Max", None, 36, 300),
        ("Apple M3 Max", None, 128, 400),
        ("Apple M3 Max", None, None, (300, 400)),
        ("Apple M3 Max", None, 192, (300, 400)),  # no such Mac
        ("Apple M3 Max", 35, 36, (300, 400)),
        ("Apple M4 Max", 32, 36, 410),
        ("Apple M4 Max", 40, 48, 546),
        ("Apple M5 Max", None, 36, 460),
        ("Apple M5 Max", 40, None, 614),
        ("Apple M6", 12, 16, (153, 170)),  # which is which has one source alone
        ("Apple M6", None, None, (153, 170)),
        ("Apple M5 Ultra", 64, 96, None),  # one source alone, like the next
        ("Apple A18 Pro", 5, 8, None),
        ("Apple M2", 8, 8, 100),
        ("Apple M3 Ultra", 60, 256, 819),
        ("Apple M9 Max", 40, 128, None),
        ("Apple M4 Ultra", 80, 256, None),  # never made
        ("Apple M1 (Virtual)", 7, 7, None),
        ("AMD EPYC", None, 64, None),
        ("NVIDIA H200", None, 256, 4800),
        (None, None, None, None),
    ],
)
def test_bandwidth_is_as_certain_as_what_is_known(chip, cores, memory_gb, expected):
    memory_bytes = memory_gb and memory_gb * GIB
    assert bandwidth(chip, cores, memory_bytes) == expected


def test_no_chip_with_two_bandwidths_has_a_certain_one_by_its_name_alone():
    several = {chip for chip, bins in chips.CHIPS.items() if len(bins) > 1}
    assert several == {f"Apple {name}" for name in ("M3 Max", "M4 Max", "M5 Max", "M6")}
    assert all(isinstance(bandwidth(chip), tuple) for chip in several)


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


def test_sysctl_keys_that_are_not_there_are_none_and_shift_nothing():
    text = SYSCTL.format(chip="Apple M1", memory=8 * GIB)
    without = "".join(
        line
        for line in text.splitlines(keepends=True)
        if not line.startswith(("hw.model", "iogpu", "sysctl"))
    )
    found = machine.mac_of(without, None)
    assert found == machine.Hardware(
        "Apple M1", None, None, 14, 8 * GIB, "macOS 26.2 (25C56)", None, False
    )
    translated = machine.mac_of(text.replace("proc_translated: 0", "proc_translated: 1"), 8)
    assert (translated.translated, translated.wired_limit_mb) == (True, 0)


@pytest.mark.parametrize("text", ["", "not json", "[]", "{}", '{"SPDisplaysDataType": [{}]}'])
def test_displays_that_say_nothing_of_cores_are_none(text):
    assert machine.displayed_cores_of(text) is None


def test_power_and_heat_are_told(mac):
    mac(batt=BATTERY, pmset=PMSET.format(low=1), therm=LIMITS.format(scheduler=80, speed=62))
    told = machine.condition()
    assert (told["power"], told["power_mode"]) == ("battery", "low")
    assert told["thermal"] == "CPU_Scheduler_Limit 80, CPU_Speed_Limit 62"
    assert told["load"] >= 0
    mac(batt="Now drawing from 'AC Power'\n", pmset=PMSET.format(low=0), therm=NO_WARNINGS)
    told = machine.condition()
    assert [told[key] for key in ("power", "power_mode", "thermal")] == [
        "ac",
        "automatic",
        "no warning recorded",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NO_WARNINGS, "no warning recorded"),
        (LIMITS.format(scheduler=100, speed=100), "nominal"),
        ("CPU_Speed_Limit = 100\n", "nominal"),
        ("CPU_Speed_Limit \t= 70", "CPU_Speed_Limit 70"),
        (WARNED, "Thermal Warning Level 70"),
        ("something unrelated", None),
        ("", None),
    ],
)
def test_heat_is_nominal_only_where_pmset_measured_it(text, expected):
    assert machine.thermal_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" powermode            0\n", "automatic"),
        (" powermode            1\n", "low"),
        (" powermode            2\n", "high"),
        (" lowpowermode         1\n highpowermode        0\n", "low"),
        (" lowpowermode         0\n highpowermode        1\n", "high"),
        (" lowpowermode         0\n powermode            1\n", "low"),
        (" lowpowermode         0\n", "automatic"),
        (" sleep                1\n", None),
    ],
)
def test_the_power_mode_of_one_key_or_of_switches(text, expected):
    assert machine.power_mode_of(text) == expected


@pytest.mark.parametrize(
    ("told", "mode"),
    [
        ({"power_mode": "high"}, "high"),
        ({"low_power": True}, "low"),
        ({"low_power": False}, None),  # which may have been high
        ({}, None),
    ],
)
def test_a_condition_of_before_power_modes_tells_low_power_alone(told, mode):
    assert machine.power_mode(told) == mode


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


def test_a_ups_is_a_battery_and_other_sources_are_unknown():
    assert machine.power_of("Now drawing from 'UPS Power'") == "battery"
    assert machine.power_of("No batteries here") is None


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
    assert machine.matrix_units(architecture, os, wheel) == lacking


def test_the_platform_of_a_wheel():
    wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-macosx_26_0_arm64\n\n"
    assert machine.platform_tag(wheel) == WHEEL
    assert machine.platform_tag("Wheel-Version: 1.0\n") is None


def test_a_linux_machine_out_of_proc():
    cpuinfo = "".join(f"processor\t: {i}\nmodel name\t: AMD EPYC 9654\n\n" for i in range(16))
    meminfo = "MemTotal:       131072000 kB\nMemFree:        1 kB\n"
    found = machine.linux_of(cpuinfo, meminfo, 'NAME="Debian"\nPRETTY_NAME="Debian 12"\n')
    assert (found.chip, found.cpu_cores) == ("AMD EPYC 9654", 16)
    assert found.memory_bytes == 131072000 * 1024
    assert found.os is not None
    assert found.os.startswith("Debian 12 (Linux ")
    bare = machine.linux_of("", "", "")
    assert bare.memory_bytes is None
    assert bare.cpu_cores == os.cpu_count()


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


def test_a_gpus_memory_as_metal_and_cuda_tell_it():
    metal = {"max_recommended_working_set_size": 50, "memory_size": 64}
    told = (metal, {"memory_size": 141}, {"total_memory": 141}, {"device_name": "x"})
    assert [machine._gpu_bytes(one) for one in told] == [50, 141, 141, None]


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


def test_a_command_that_is_not_there_or_hangs_is_none(monkeypatch):
    assert machine._output("/no/such/command") is None
    monkeypatch.setattr(machine, "_TIMEOUT_S", 0.2)
    assert machine._output(sys.executable, "-c", "import time; time.sleep(30)") is None
    script = "import sys; print('found'); sys.exit(1)"  # as sysctl does when a key lacks
    monkeypatch.undo()
    assert machine._output(sys.executable, "-c", script) == "found\n"


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


def git(folder, *words):
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_the_commit_is_that_of_a_checkout_that_holds_this_package(tmp_path, monkeypatch):
    module = tmp_path / "benchmarks" / "machine.py"
    monkeypatch.setattr(machine, "_HERE", module)
    module.parent.mkdir()
    module.write_text("one")
    assert machine._commit() is None  # no checkout
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "Somebody else's")
    assert machine._commit() is None  # one that knows nothing of us
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "Ours")
    git(tmp_path, "tag", "-a", "v1", "-m", "A tag is no commit")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    assert machine._commit() == commit
    module.write_text("two")
    assert machine._commit() == f"{commit}-dirty"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_footprint_on_linux_grows_and_keeps_its_peak():
    before, _ = memory.footprint()
    block = mmap.mmap(-1, 64 << 20)  # pages of its own, which malloc might have had already
    for at in range(0, len(block), mmap.PAGESIZE):
        block[at] = 1
    held, peak = memory.footprint()
    assert held - before > 48 << 20
    assert peak >= held
    block.close()
    after, still = memory.footprint()
    assert after < held - (48 << 20)
    assert still > peak - (1 << 20)  # Linux counts in each thread, and adds up now and then


def test_status_counts_in_kib_and_what_lacks_is_none(monkeypatch, tmp_path):
    status = "Name:\tpython\nVmPeak:\t  500 kB\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB\n"
    assert memory.from_status(status) == (200 * 1024, 300 * 1024)
    assert memory.from_status("Name:\tpython\n") == (None, None)
    monkeypatch.setattr(memory, "sys", SimpleNamespace(platform="linux"))
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    assert memory.footprint() == (None, None)


# struct rusage_info_v4, in its order (<sys/resource.h>): a UUID, then 64-bit counters.
COUNTERS = """
user_time system_time pkg_idle_wkups interrupt_wkups pageins wired_size resident_size
phys_footprint proc_start_abstime proc_exit_abstime child_user_time child_system_time
child_pkg_idle_wkups child_interrupt_wkups child_pageins child_elapsed_abstime diskio_bytesread
diskio_byteswritten qos_default qos_maintenance qos_background qos_utility qos_legacy
qos_user_initiated qos_user_interactive billed_system_time serviced_system_time logical_writes
lifetime_max_phys_footprint instructions cycles billed_energy serviced_energy
interval_max_phys_footprint runnable_time
"""
NAMES = COUNTERS.split()


class RusageInfoV4(ctypes.Structure):
    _fields_ = [
        ("uuid", ctypes.c_uint8 * 16),
        *((name, ctypes.c_uint64) for name in NAMES),
    ]


@pytest.fixture
def library(monkeypatch):
    """A system library whose proc_pid_rusage fills the struct, or answers with an error."""

    def make(answer):
        def proc_pid_rusage(pid, flavor, buffer):
            assert (pid.value, flavor.value) == (os.getpid(), 4)
            info = RusageInfoV4(*([(ctypes.c_uint8 * 16)()] + [1] * len(NAMES)))
            info.phys_footprint, info.lifetime_max_phys_footprint = 7_240_000_000, 9_000_000_000
            ctypes.memmove(buffer, ctypes.byref(info), ctypes.sizeof(info))
            return answer

        def load(path):
            assert path == "/usr/lib/libSystem.B.dylib"
            return SimpleNamespace(proc_pid_rusage=proc_pid_rusage)

        monkeypatch.setattr(memory, "sys", SimpleNamespace(platform="darwin"))
        monkeypatch.setattr(memory.ctypes, "CDLL", load)

    return make


def _no_library(path):
    raise OSError(f"{path}: cannot open shared object file")


def test_a_mac_says_its_physical_footprint_and_its_peak(library):
    assert ctypes.sizeof(RusageInfoV4) == 296
    library(0)
    assert memory.footprint() == (7_240_000_000, 9_000_000_000)


def test_a_mac_that_refuses_or_lacks_the_call_is_none(library, monkeypatch):
    library(-1)
    assert memory.footprint() == (None, None)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda path: SimpleNamespace())
    assert memory.footprint() == (None, None)
    monkeypatch.setattr(memory.ctypes, "CDLL", _no_library)
    assert memory.footprint() == (None, None)
