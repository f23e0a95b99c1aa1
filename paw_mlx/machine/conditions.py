"""What changes from run to run: power source and mode, thermal state, load."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from . import tools

PMSET = ("/usr/bin/pmset", "-g")


def condition() -> dict[str, Any]:
    """Return power source, power mode, thermal state and load, as they are now."""
    source = mode = thermal = None
    if sys.platform == "darwin":
        source, mode, thermal = (tools.output(*PMSET, *what) for what in (["batt"], [], ["therm"]))
    return {
        "power": power_of(source or ""),
        "power_mode": power_mode_of(mode or ""),
        "thermal": thermal_of(thermal or ""),
        "load": os.getloadavg()[0],
    }


def power_of(text: str) -> str | None:
    """Return `ac` or `battery`, of `pmset -g batt`; a UPS is a battery."""
    match = re.search(r"drawing from '(AC|Battery|UPS) Power'", text)
    if match is None:
        return None
    return "ac" if match[1] == "AC" else "battery"


def power_mode_of(text: str) -> str | None:
    """Return `low`, `automatic` or `high`, of `pmset -g`.

    One key has all three modes, others are switches.
    """
    found = dict(re.findall(r"^\s*((?:low|high)?powermode)\s+(\d+)", text, re.M))
    if "1" in (found.get("lowpowermode"), found.get("powermode")):
        return "low"
    if found.get("highpowermode") == "1" or found.get("powermode") == "2":
        return "high"
    return "automatic" if found else None


def power_mode(told: Mapping[str, Any]) -> str | None:
    """Return the power mode in a recorded condition; an older one tells low power alone."""
    return told.get("power_mode") or ("low" if told.get("low_power") else None)


def thermal_of(text: str) -> str | None:
    """Return the levels and limits that are not as they should be, of `pmset -g therm`.

    `nominal` if it tells some and all are; where it tells none, silence is no measurement.
    """
    levels = re.findall(r"((?:Thermal|Performance) Warning Level)\s*=\s*(\d+)", text)
    limits = re.findall(r"(CPU_(?:Speed|Scheduler)_Limit)\s*=\s*(\d+)", text)
    hot = [f"{name} {value}" for name, value in levels if int(value)]
    hot += [f"{name} {value}" for name, value in limits if int(value) < 100]
    if hot:
        return ", ".join(hot)
    if levels or limits:
        return "nominal"
    silent = "No thermal warning level has been recorded" in text
    return "no warning recorded" if silent else None
