"""What is generated for a Mac, as tests look at it: plans, plists by their known keys, scripts."""

from __future__ import annotations

import plistlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.parsers import expat

import tiny

from paw_mlx import store
from paw_mlx.mac.kinds import KINDS
from paw_mlx.mac.plan import Plan, make_request
from paw_mlx.output import TEXT, Labels

WITH_FOLDER = ("folder-action", "launch-agent")
LABELS = ("urgent", "not urgent")

Shape = Any  # a type, several, a list of one shape, or a dictionary of keys (`*`: any key)
PARAMETERS = {
    "COMMAND_STRING": str,
    "CheckedForUserDefaultShell": bool,
    "inputMethod": int,
    "shell": str,
    "source": str,
}
SERVICE = {
    "NSMenuItem": {"default": str},
    "NSMessage": str,
    "NSTimeout": str,
    "NSSendTypes": [str],
    "NSReturnTypes": [str],
    "NSSendFileTypes": [str],
    "NSRequiredContext": {"NSApplicationIdentifier": str},
}
INFO = {
    "CFBundleIdentifier": str,
    "CFBundleName": str,
    "CFBundlePackageType": str,
    "CFBundleShortVersionString": str,
    "NSServices": [SERVICE],
}
TYPES = {"Container": str, "Optional": bool, "Types": [str]}
ACTION = {
    "AMAccepts": TYPES,
    "AMActionVersion": str,
    "AMApplication": [str],
    "AMParameterProperties": {key: {} for key in PARAMETERS},
    "AMProvides": TYPES,
    "ActionBundlePath": str,
    "ActionName": str,
    "ActionParameters": PARAMETERS,
    "BundleIdentifier": str,
    "CFBundleVersion": str,
    "CanShowSelectedItemsWhenRun": bool,
    "CanShowWhenRun": bool,
    "Class Name": str,
    "InputUUID": str,
    "OutputUUID": str,
    "UUID": str,
    "isViewVisible": int,
    "nibPath": str,
}
METADATA = {
    "applicationBundleIDsByPath": {},
    "applicationPaths": [str],
    "folderActionFolderPath": str,
    "inputTypeIdentifier": str,
    "outputTypeIdentifier": str,
    "presentationMode": int,
    "processesInput": bool,
    "serviceApplicationBundleID": str,
    "serviceInputTypeIdentifier": str,
    "serviceOutputTypeIdentifier": str,
    "serviceProcessesInput": bool,
    "systemImageName": str,
    "useAutomaticInputType": bool,
    "workflowTypeIdentifier": str,
}
DOCUMENT = {
    "AMApplicationBuild": str,
    "AMApplicationVersion": str,
    "AMDocumentVersion": str,
    "actions": [{"action": ACTION, "isViewVisible": int}],
    "connectors": {},
    "workflowMetaData": METADATA,
}
AGENT = {  # launchd.plist(5)
    "Label": str,
    "ProgramArguments": [str],
    "EnvironmentVariables": {"*": str},
    "ProcessType": str,
    "StandardOutPath": str,
    "StandardErrorPath": str,
    "QueueDirectories": [str],
    "StartCalendarInterval": {"Hour": int, "Minute": int},
    "ThrottleInterval": int,
}
CONFIG = {
    "acceptsfiles": bool,
    "acceptsmulti": int,
    "acceptstext": bool,
    "acceptsurls": bool,
    "argumenttype": int,
    "autopaste": bool,
    "clipboardtext": str,
    "concurrently": bool,
    "escaping": int,
    "ignoredynamicplaceholders": bool,
    "keyword": str,
    "lastpathcomponent": bool,
    "name": str,
    "onlyshowifquerypopulated": bool,
    "removeextension": bool,
    "script": str,
    "scriptargtype": int,
    "scriptfile": str,
    "subtext": str,
    "text": str,
    "title": str,
    "transient": bool,
    "type": int,
    "withspace": bool,
}
TO = {"destinationuid": str, "modifiers": int, "modifiersubtext": str, "vitoclose": bool}
ALFRED = {
    "bundleid": str,
    "category": str,
    "connections": {"*": [TO]},
    "createdby": str,
    "description": str,
    "disabled": bool,
    "name": str,
    "objects": [{"config": CONFIG, "type": str, "uid": str, "version": int}],
    "readme": str,
    "uidata": {"*": {"xpos": float, "ypos": float}},
    "version": str,
    "webaddress": str,
}
RUN_SHELL_SCRIPT = {
    "Input": {"Value": {"Type": str}, "WFSerializationType": str},
    "InputMode": str,
    "Script": str,
    "Shell": str,
    "UUID": str,
}
SHORTCUT = {
    "WFQuickActionSurfaces": [str],
    "WFWorkflowActions": [
        {"WFWorkflowActionIdentifier": str, "WFWorkflowActionParameters": RUN_SHELL_SCRIPT}
    ],
    "WFWorkflowClientVersion": str,
    "WFWorkflowHasOutputFallback": bool,
    "WFWorkflowHasShortcutInputVariables": bool,
    "WFWorkflowIcon": {"WFWorkflowIconGlyphNumber": int, "WFWorkflowIconStartColor": int},
    "WFWorkflowImportQuestions": [str],
    "WFWorkflowInputContentItemClasses": [str],
    "WFWorkflowMinimumClientVersion": int,
    "WFWorkflowMinimumClientVersionString": str,
    "WFWorkflowName": str,
    "WFWorkflowNoInputBehavior": {"Name": str, "Parameters": {"ItemClass": str}},
    "WFWorkflowOutputContentItemClasses": [str],
    "WFWorkflowTypes": [str],
}
SHAPES = {
    "Info.plist": INFO,
    "document.wflow": DOCUMENT,
    "info.plist": ALFRED,
    ".plist": AGENT,
    ".shortcut": SHORTCUT,
}


def lint(data: bytes) -> Any:
    """Return the value of a property list, as `plutil -lint` would take it: UTF-8, well-formed."""
    if not data.startswith(b"bplist"):
        assert data.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC')
        expat.ParserCreate("UTF-8").Parse(data, True)
    return plistlib.loads(data)


def misfits(value: Any, shape: Shape, where: str = "") -> list[str]:
    """Return where a value has other keys or types than a shape."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [f"{where} is no dictionary"]
        wrong = [f"{where}.{key} is unknown" for key in value if not {key, "*"} & shape.keys()]
        for key, inner in value.items():
            if inside := shape.get(key, shape.get("*")):
                wrong += misfits(inner, inside, f"{where}.{key}")
        return wrong
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{where} is no array"]
        return [w for n, each in enumerate(value) for w in misfits(each, shape[0], f"{where}[{n}]")]
    return [] if type(value) is shape else [f"{where} is {value!r}, no {shape.__name__}"]


def scripts(plan: Plan) -> list[str]:
    """Return the shell scripts in what is planned, as hosts take them out."""
    found = []
    for path, data in plan.paths().items():
        if path.suffix == ".sh":
            found.append(data.decode())
        elif path.suffix == ".applescript":
            found.append(strings_of(data.decode())[1])
        else:
            found += [text for text in texts(lint(data)) if "paw_mlx" in text]
    return found


def texts(value: Any) -> list[str]:
    """Return all texts in a property list."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def strings_of(source: str) -> list[str]:
    """Return the string literals of a script of AppleScript's, read as its language guide says."""
    found, text = list[str](), ""
    inside = comment = escaped = False
    for number, character in enumerate(source):
        if inside:
            if escaped:
                text, escaped = text + {"n": "\n", "t": "\t"}.get(character, character), False
            elif character == "\\":
                escaped = True
            elif character == '"':
                found, text, inside = [*found, text], "", False
            else:
                text += character
        elif comment:
            comment = character != "\n"
        elif source.startswith("--", number):
            comment = True
        elif character == '"':
            inside = True
    assert not inside, "a string has no end"
    return found


def stored(name: str, spec: str = "Say how urgent it is.", labels: tuple[str, ...] = ()) -> Path:
    """Store a function of a tiny base, which lies in the folder that is returned."""
    base = store.root().parent / "tiny"
    if not base.exists():
        tiny.write_base(base, "llama")
    program = replace(
        tiny.program("llama"),
        interpreter=str(base),
        spec=spec,
        output=Labels(labels) if labels else TEXT,
    )
    store.add(program, name, profile=tiny.profile("llama"))
    return base


def planned(name: str, kind: str, home: Path, **choices: Any) -> Plan:
    """Plan a function as a kind, in a home; with a folder in it, if it needs one."""
    if kind in WITH_FOLDER:
        choices.setdefault("folder", home / "in")
        choices["folder"].mkdir(parents=True, exist_ok=True)
    if kind == "alfred":
        workflows = "Library/Application Support/Alfred/Alfred.alfredpreferences/workflows"
        (home / workflows).mkdir(parents=True, exist_ok=True)
    return KINDS[kind].plan(make_request(name, kind, home=home, **choices))


def run_bare(
    script: str,
    *arguments: str,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    shell: str = "/bin/sh",
) -> subprocess.CompletedProcess[bytes]:
    """Run a script as a host does: by /bin/sh, in an environment of next to nothing."""
    return subprocess.run(
        [shell, "-c", script, "paw-mlx", *arguments],
        input=stdin,
        capture_output=True,
        env=env or {},
        cwd="/",
        timeout=120,
    )


def standing_in(folder: Path, name: str, body: str) -> Path:
    """Write a program that stands in for one of macOS's: a script of this Python."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path
