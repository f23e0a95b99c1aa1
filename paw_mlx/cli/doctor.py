"""`paw-mlx doctor`: what this machine has, what it lacks, and the command that mends it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from ..machine.doctor import OK, PROBLEM, WARNING, Check, checks
from ..machine.facts import Facts, gather
from ..machine.verify import verify as verified
from ..words import harmless
from .command import Command
from .common import print_json
from .options import json_option
from .voice import status

_COLORS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}


@click.command(cls=Command)
@click.option("--verify", is_flag=True, help="Also read all that is installed, and check it.")
@json_option
def command(verify: bool, as_json: bool) -> None:
    """Check this machine: chip, MLX, memory, network, folders, what is installed.

    Exits with 1 if something keeps programs from running.
    """
    facts = gather()
    found = list(checks(facts))
    if verify:
        found += verified(facts.installed, status)
    sound = all(check.state != PROBLEM for check in found)
    if as_json:
        print_json(_record(facts, found, sound))
    else:
        click.echo(_sheet(found))
    if not sound:
        raise click.exceptions.Exit(1)


def _record(facts: Facts, found: list[Check], sound: bool) -> dict[str, Any]:
    return {
        "ok": sound,
        "machine": facts.card,
        "limits": {
            "memory_bytes": facts.card["memory_bytes"],
            "gpu_bytes": facts.mlx.gpu_bytes,
            "wired_limit_mb": facts.hardware.wired_limit_mb,
        },
        "folders": {"data": asdict(facts.data), "cache": asdict(facts.cache)},
        "bases": facts.names("base"),
        "compilers": facts.names("compiler"),
        "checks": [asdict(check) for check in found],
    }


def _sheet(found: list[Check]) -> str:
    states = max(len(check.state) for check in found)
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        state = click.style(check.state.ljust(states), fg=_COLORS[check.state])
        lines.append(f"{state}  {check.name.ljust(width)}  {harmless(check.message)}")
        if check.hint:
            lines.append(f"{' ' * (states + width + 4)}→ {harmless(check.hint)}")
    return "\n".join(lines)
