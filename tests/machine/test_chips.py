"""Bandwidths of chips, as certain as they are known."""

from __future__ import annotations

import pytest
from recorded import GIB

from paw_mlx.machine import chips
from paw_mlx.machine.chips import bandwidth


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
