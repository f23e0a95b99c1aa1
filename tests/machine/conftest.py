"""Machines that are not here: tools that print what they are given."""

from __future__ import annotations

import sys

import pytest

from paw_mlx import machine
from paw_mlx.machine import conditions, hardware, tools

COMMANDS = {
    "sysctl": hardware.SYSCTL,
    "ioreg": hardware.IOREG,
    "displays": hardware.DISPLAYS,
    "pmset": conditions.PMSET,
    "batt": (*conditions.PMSET, "batt"),
    "therm": (*conditions.PMSET, "therm"),
}


@pytest.fixture(autouse=True)
def forgetful():
    """What is asked once per process is asked anew in each test."""
    asked = machine.system, machine.mlx
    for one in asked:
        one.cache_clear()
    yield
    for one in asked:
        one.cache_clear()


@pytest.fixture
def mac(monkeypatch):
    """A Mac whose tools print what they are given; what is not given is not there."""

    def make(**printed):
        told = {COMMANDS[name]: text for name, text in printed.items()}
        monkeypatch.setattr(tools, "output", lambda *command: told.get(command))
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(machine, "mlx", lambda: machine.Library(device="gpu"))

    return make
