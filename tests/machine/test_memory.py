"""The process's footprint, on Linux and on a Mac."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from types import SimpleNamespace

import pytest

from paw_mlx.machine import memory


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
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
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
