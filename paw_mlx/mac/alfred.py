"""A workflow of Alfred's: a keyword, and an action on selected text, copy an answer."""

from __future__ import annotations

import json
import plistlib
from pathlib import Path
from typing import Any

from ..errors import NotFound
from ..files import exists, read_errors
from . import scripts
from .plan import Plan, Request

_SUPPORT = Path("Library/Application Support/Alfred")
_MAX_BYTES = 1 << 20  # of prefs.json
_BASH, _BY_ARGUMENT, _NEEDED = 0, 1, 0
# part -> its group, its version, and where it is drawn
_PARTS = {
    "keyword": ("input", 1, 30.0, 30.0),
    "universalaction": ("trigger", 1, 30.0, 170.0),
    "script": ("action", 2, 230.0, 100.0),
    "clipboard": ("output", 3, 430.0, 30.0),
    "notification": ("output", 1, 430.0, 170.0),
}
_CONFIGS: dict[str, dict[str, Any]] = {
    "keyword": {"argumenttype": _NEEDED, "withspace": True},
    "universalaction": {
        "acceptsfiles": False,
        "acceptsmulti": 0,
        "acceptstext": True,
        "acceptsurls": False,
    },
    "script": {
        "concurrently": False,
        "escaping": 0,
        "scriptargtype": _BY_ARGUMENT,
        "scriptfile": "",
        "type": _BASH,
    },
    "clipboard": {
        "autopaste": False,
        "clipboardtext": "{query}",
        "ignoredynamicplaceholders": True,
        "transient": False,
    },
    "notification": {
        "lastpathcomponent": False,
        "onlyshowifquerypopulated": True,
        "removeextension": False,
        "text": "{query}",
    },
}


def alfred(request: Request) -> Plan:
    """Return a workflow's folder; NotFound where there is no Alfred, and no folder is named."""
    ids = {part: request.uuid(part) for part in _PARTS}
    workflow = {
        "bundleid": f"paw-mlx.mac.alfred.{request.slug}",
        "category": "Tools",
        "connections": {
            ids["keyword"]: [_to(ids["script"])],
            ids["universalaction"]: [_to(ids["script"])],
            ids["script"]: [_to(ids["clipboard"]), _to(ids["notification"])],
        },
        "createdby": "paw-mlx",
        "description": request.about,
        "disabled": False,
        "name": request.title,
        "objects": _objects(request, ids),
        "readme": "",
        "uidata": {ids[p]: {"xpos": x, "ypos": y} for p, (_, _, x, y) in _PARTS.items()},
        "version": "1.0",
        "webaddress": "",
    }
    folder = request.into or _workflows(request.home)
    place = folder / f"user.workflow.{request.uuid('workflow')}"
    step = f"In Alfred: {_keyword(request)} TEXT, or the action {request.title} on selected text."
    files = {"info.plist": plistlib.dumps(workflow, sort_keys=False)}
    return Plan(request, place, files, steps=(step,))


def _objects(request: Request, ids: dict[str, str]) -> list[dict[str, Any]]:
    chosen: dict[str, dict[str, Any]] = {
        "keyword": {
            "keyword": _keyword(request),
            "subtext": request.about,
            "text": request.title,
        },
        "universalaction": {"name": request.title},
        "script": {"script": scripts.printing(request, "printf '%s' \"$1\"", errors=1)},
        "clipboard": {},
        "notification": {"title": request.title},
    }
    return [
        {
            "config": _CONFIGS[part] | chosen[part],
            "type": f"alfred.workflow.{group}.{part}",
            "uid": ids[part],
            "version": version,
        }
        for part, (group, version, _, _) in _PARTS.items()
    ]


def _to(uid: str) -> dict[str, Any]:
    return {"destinationuid": uid, "modifiers": 0, "modifiersubtext": "", "vitoclose": False}


def _keyword(request: Request) -> str:
    return request.reference.rpartition("/")[2].partition("@")[0]


def _workflows(home: Path) -> Path:
    """Return the folder of Alfred's workflows, also where the user moved it to sync it."""
    settings = home / _SUPPORT / "prefs.json"
    try:
        with read_errors(settings), settings.open("rb") as file:
            preferences = Path(json.loads(file.read(_MAX_BYTES))["current"])
    except (OSError, ValueError, TypeError, KeyError):
        preferences = home / _SUPPORT / "Alfred.alfredpreferences"
    if not exists(preferences / "workflows"):
        raise NotFound(
            f"there is no Alfred here: no folder {preferences / 'workflows'}",
            hint="Name the folder of its workflows: --into DIR",
        )
    return preferences / "workflows"
