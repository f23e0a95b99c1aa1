"""Power and heat, out of what `pmset` prints."""

from __future__ import annotations

import pytest
from recorded import BATTERY, LIMITS, NO_WARNINGS, PMSET, WARNED

from paw_mlx import machine
from paw_mlx.machine import conditions


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
    assert conditions.thermal_of(text) == expected


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
    assert conditions.power_mode_of(text) == expected


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


def test_a_ups_is_a_battery_and_other_sources_are_unknown():
    assert conditions.power_of("Now drawing from 'UPS Power'") == "battery"
    assert conditions.power_of("No batteries here") is None
