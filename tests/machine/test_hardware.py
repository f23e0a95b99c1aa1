"""The machine as its system describes it, out of recorded outputs."""

from __future__ import annotations

import os
import sys

import pytest
from recorded import GIB, SYSCTL

from paw_mlx.machine import hardware, tools


def test_sysctl_keys_that_are_not_there_are_none_and_shift_nothing():
    text = SYSCTL.format(chip="Apple M1", memory=8 * GIB)
    without = "".join(
        line
        for line in text.splitlines(keepends=True)
        if not line.startswith(("hw.model", "iogpu", "sysctl"))
    )
    found = hardware.mac_of(without, None)
    assert found == hardware.Hardware(
        "Apple M1", None, None, 14, 8 * GIB, "macOS 26.2 (25C56)", None, False
    )
    translated = hardware.mac_of(text.replace("proc_translated: 0", "proc_translated: 1"), 8)
    assert (translated.translated, translated.wired_limit_mb) == (True, 0)


@pytest.mark.parametrize("text", ["", "not json", "[]", "{}", '{"SPDisplaysDataType": [{}]}'])
def test_displays_that_say_nothing_of_cores_are_none(text):
    assert hardware.displayed_cores_of(text) is None


def test_a_linux_machine_out_of_proc():
    cpuinfo = "".join(f"processor\t: {i}\nmodel name\t: AMD EPYC 9654\n\n" for i in range(16))
    meminfo = "MemTotal:       131072000 kB\nMemFree:        1 kB\n"
    found = hardware.linux_of(cpuinfo, meminfo, 'NAME="Debian"\nPRETTY_NAME="Debian 12"\n')
    assert (found.chip, found.cpu_cores) == ("AMD EPYC 9654", 16)
    assert found.memory_bytes == 131072000 * 1024
    assert found.os is not None
    assert found.os.startswith("Debian 12 (Linux ")
    bare = hardware.linux_of("", "", "")
    assert bare.memory_bytes is None
    assert bare.cpu_cores == os.cpu_count()


def test_a_command_that_is_not_there_or_hangs_is_none():
    assert tools.output("/no/such/command") is None
    asleep = "import time; time.sleep(30)"
    assert tools.output(sys.executable, "-c", asleep, timeout_s=0.2) is None
    script = "import sys; print('found'); sys.exit(1)"  # as sysctl does when a key lacks
    assert tools.output(sys.executable, "-c", script) == "found\n"
