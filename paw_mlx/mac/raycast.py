"""A script command of Raycast's: a shell script whose comments say what it is."""

from __future__ import annotations

from . import scripts
from .plan import Plan, Request, own_folder

_ARGUMENT = '{"type": "text", "placeholder": "text, or else the clipboard", "optional": true}'
# pbpaste writes UTF-8 only where the locale says so.
_GIVEN = """if [ -n "$1" ]; then printf '%s' "$1"; else LC_CTYPE=UTF-8 /usr/bin/pbpaste; fi"""


def raycast(request: Request) -> Plan:
    """Return a script command, which takes a text or what the clipboard holds."""
    header = {
        "schemaVersion": "1",
        "title": request.title,
        "mode": "compact" if request.labels else "fullOutput",
        "packageName": "paw-mlx",
        "icon": "🐾",
        "argument1": _ARGUMENT,
        "description": request.about or request.title,
    }
    lines = ["#!/bin/sh", *(f"# @raycast.{key} {value}" for key, value in header.items())]
    script = "\n".join([*lines, "", scripts.printing(request, _GIVEN, errors=1)])
    # `.template.` in a name has Raycast pass over it
    name = f"{request.slug.replace('.', '-')}.sh"
    place = (request.into or own_folder() / "raycast") / name
    where = "Settings > Extensions > Script Commands > Add Directories"
    step = f"In Raycast, once: {where}, and there {place.parent}."
    return Plan(request, place, {"": script.encode()}, executable=True, steps=(step,))
