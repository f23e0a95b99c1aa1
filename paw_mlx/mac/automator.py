"""Automator's workflows with one action, Run Shell Script: Quick Actions and folder actions.

Apple documents no format. The keys are those of bundles that Automator writes, and that others
generate and use; none is signed. Automator opens and changes them like its own.
"""

from __future__ import annotations

import plistlib
from pathlib import Path
from typing import Any

from ..errors import OptionError
from . import scripts
from .plan import Plan, Request

_ACTION = "/System/Library/Automator/Run Shell Script.action"
_STRINGS = "com.apple.cocoa.string"
_TEXT = "com.apple.Automator.text"
_FILES = "com.apple.Automator.fileSystemObject"
_NOTHING = "com.apple.Automator.nothing"
_FINDER = "com.apple.finder"
_TIMEOUT_MS = "120000"  # of a service: the first call may load a model
SERVICES = Path("Library/Services")
FOLDER_ACTIONS = Path("Library/Workflows/Applications/Folder Actions")


def quick_action(request: Request) -> Plan:
    """Return a Quick Action on selected text: an answer replaces it, or is shown."""
    replaces = request.replace
    script = scripts.replacing(request) if replaces else scripts.showing(request)
    service = {"NSSendTypes": ["public.utf8-plain-text"], "NSRequiredContext": {}}
    if replaces:
        service["NSReturnTypes"] = ["public.utf8-plain-text"]
    metadata = _service(_TEXT, _TEXT if replaces else _NOTHING, 11)
    files = {
        "Contents/Info.plist": _info(request, service),
        "Contents/document.wflow": _document(request, script, metadata, by_arguments=False),
    }
    where = f"Select text, then in the context menu: Services > {request.title}."
    return Plan(request, _place(request, SERVICES), files, steps=(where,))


def finder(request: Request) -> Plan:
    """Return a Quick Action on files in Finder: they get their labels as tags."""
    service = {
        "NSSendFileTypes": ["public.item"],
        "NSRequiredContext": {"NSApplicationIdentifier": _FINDER},
    }
    metadata = _service(_FILES, _NOTHING, 15) | {"serviceApplicationBundleID": _FINDER}
    script = scripts.tagging(request)
    files = {
        "Contents/Info.plist": _info(request, service),
        "Contents/document.wflow": _document(request, script, metadata, by_arguments=True),
    }
    where = f"Select files, then in the context menu: Quick Actions > {request.title}."
    return Plan(request, _place(request, SERVICES), files, steps=(where,))


def folder_action(request: Request) -> Plan:
    """Return a folder action, which sorts what is dropped into a folder; OptionError without."""
    if request.folder is None:
        raise OptionError("a folder action needs the folder that it is for", hint="--folder DIR")
    metadata = {
        "folderActionFolderPath": str(request.folder),
        "workflowTypeIdentifier": "com.apple.Automator.folderAction",
    }
    script = scripts.sorting(request, '"$@"')
    files = {"Contents/document.wflow": _document(request, script, metadata, by_arguments=True)}
    where = (
        f"To bind it by hand: in {request.folder}'s context menu choose Services > "
        f"Folder Actions Setup, and there {request.title}.workflow."
    )
    return Plan(request, _place(request, FOLDER_ACTIONS), files, steps=(where,))


def _place(request: Request, usual: Path) -> Path:
    return (request.into or request.home / usual) / f"{request.title}.workflow"


def _info(request: Request, service: dict[str, Any]) -> bytes:
    """Return Info.plist, by which the Services menu knows a workflow."""
    named = {
        "NSMenuItem": {"default": request.title},
        "NSMessage": "runWorkflowAsService",
        "NSTimeout": _TIMEOUT_MS,
    }
    info = {
        "CFBundleIdentifier": f"paw-mlx.mac.{request.kind}.{request.slug.replace('_', '-')}",
        "CFBundleName": request.title,
        "CFBundlePackageType": "BNDL",
        "CFBundleShortVersionString": "1.0",
        "NSServices": [named | service],
    }
    return plistlib.dumps(info, sort_keys=False)


def _service(takes: str, gives: str, mode: int) -> dict[str, Any]:
    return {
        "applicationBundleIDsByPath": {},
        "applicationPaths": [],
        "inputTypeIdentifier": takes,
        "outputTypeIdentifier": gives,
        "presentationMode": mode,
        "processesInput": False,
        "serviceInputTypeIdentifier": takes,
        "serviceOutputTypeIdentifier": gives,
        "serviceProcessesInput": False,
        "systemImageName": "NSActionTemplate",
        "useAutomaticInputType": False,
        "workflowTypeIdentifier": "com.apple.Automator.servicesMenu",
    }


def _document(
    request: Request, script: str, metadata: dict[str, Any], *, by_arguments: bool
) -> bytes:
    """Return document.wflow: a script that gets its input as arguments, or by standard input."""
    parameters = {
        "COMMAND_STRING": script,
        "CheckedForUserDefaultShell": True,
        "inputMethod": int(by_arguments),
        "shell": "/bin/sh",
        "source": "",
    }
    strings = {"Container": "List", "Types": [_STRINGS]}
    action = {
        "AMAccepts": strings | {"Optional": True},
        "AMActionVersion": "2.0.3",
        "AMApplication": ["Automator"],
        "AMParameterProperties": {name: {} for name in parameters},
        "AMProvides": strings,
        "ActionBundlePath": _ACTION,
        "ActionName": "Run Shell Script",
        "ActionParameters": parameters,
        "BundleIdentifier": "com.apple.RunShellScript",
        "CFBundleVersion": "2.0.3",
        "CanShowSelectedItemsWhenRun": False,
        "CanShowWhenRun": True,
        "Class Name": "RunShellScriptAction",
        "InputUUID": request.uuid("input"),
        "OutputUUID": request.uuid("output"),
        "UUID": request.uuid("action"),
        "isViewVisible": 1,
        "nibPath": f"{_ACTION}/Contents/Resources/Base.lproj/main.nib",
    }
    document = {
        "AMApplicationBuild": "523",
        "AMApplicationVersion": "2.10",
        "AMDocumentVersion": "2",
        "actions": [{"action": action, "isViewVisible": 1}],
        "connectors": {},
        "workflowMetaData": metadata,
    }
    return plistlib.dumps(document, sort_keys=False)
