"""A shortcut with one action, Run Shell Script. Shortcuts takes none that a Mac has not signed.

Apple documents no format; the keys are those of shortcuts that the app exports.
"""

from __future__ import annotations

import plistlib
from typing import Any

from . import scripts, text
from .plan import Plan, Request, own_folder

_INPUT = {"Value": {"Type": "ExtensionInput"}, "WFSerializationType": "WFTextTokenAttachment"}
_GREEN, _GLYPH = 4292093695, 59511


def shortcut(request: Request) -> Plan:
    """Return an unsigned shortcut: text in, an answer out, also as a Quick Action."""
    action = {
        "WFWorkflowActionIdentifier": "is.workflow.actions.runshellscript",
        "WFWorkflowActionParameters": {
            "Input": _INPUT,
            "InputMode": "to stdin",
            "Script": scripts.printing(request, "cat"),
            "Shell": "/bin/sh",
            "UUID": request.uuid("action"),
        },
    }
    asks = {"ItemClass": "WFStringContentItem"}
    workflow: dict[str, Any] = {
        "WFQuickActionSurfaces": ["Services"],
        "WFWorkflowActions": [action],
        "WFWorkflowClientVersion": "2605.0.5",
        "WFWorkflowHasOutputFallback": False,
        "WFWorkflowHasShortcutInputVariables": True,
        "WFWorkflowIcon": {"WFWorkflowIconGlyphNumber": _GLYPH, "WFWorkflowIconStartColor": _GREEN},
        "WFWorkflowImportQuestions": [],
        "WFWorkflowInputContentItemClasses": ["WFStringContentItem"],
        "WFWorkflowMinimumClientVersion": 900,
        "WFWorkflowMinimumClientVersionString": "900",
        "WFWorkflowName": request.title,
        "WFWorkflowNoInputBehavior": {
            "Name": "WFWorkflowNoInputBehaviorAskForInput",
            "Parameters": asks,
        },
        "WFWorkflowOutputContentItemClasses": ["WFStringContentItem"],
        "WFWorkflowTypes": ["QuickActions", "ActionExtension"],
    }
    folder = request.into or own_folder() / "shortcuts"
    place, signed = (
        folder / f"{request.title}{end}" for end in (".unsigned.shortcut", ".shortcut")
    )
    steps = (
        f"On a Mac that is online: {text.sh(*sign(str(place), str(signed)))}",
        f"Then import it: {text.sh('open', str(signed))}",
        "In Shortcuts > Settings > Advanced, allow running scripts.",
        "A shortcut that was imported is removed in the app Shortcuts.",
    )
    files = {"": plistlib.dumps(workflow, fmt=plistlib.FMT_BINARY, sort_keys=False)}
    return Plan(request, place, files, made=signed, steps=steps)


def sign(unsigned: str, signed: str) -> list[str]:
    """Return the command of a Mac that signs a shortcut (shortcuts(1))."""
    words = ["/usr/bin/shortcuts", "sign", "--mode", "anyone"]
    return [*words, "--input", unsigned, "--output", signed]
