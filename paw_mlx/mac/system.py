"""What only a Mac has: its programs that are told of what was installed, or make something of it.

Their paths are absolute, and their scripts constant: what varies comes as arguments.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from . import applescript, launchd, shortcut, text
from .register import Entry

Call = Callable[[Sequence[str]], str | None]
_LIMIT_S = 60
_PBS = "/System/Library/CoreServices/pbs"
_BIND = """on run {theFolder, theName, thePath}
  tell application "System Events"
    set folder actions enabled to true
    if not (exists folder action theFolder) then ¬
      make new folder action at end of folder actions ¬
        with properties {enabled:true, name:theFolder, path:theFolder}
    tell folder action theFolder
      if not (exists script theName) then ¬
        make new script at end of scripts with properties {name:theName, path:thePath}
    end tell
  end tell
end run"""
_UNBIND = """on run {theFolder, theName}
  tell application "System Events"
    if not (exists folder action theFolder) then return
    tell folder action theFolder to if exists script theName then delete script theName
    if (count of scripts of folder action theFolder) is 0 then delete folder action theFolder
  end tell
end run"""


def is_mac() -> bool:
    """Return whether this is one."""
    return sys.platform == "darwin"


def call(words: Sequence[str]) -> str | None:
    """Run a program of the system's, for a minute at most; return what went wrong, or None."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = " ".join((done.stderr or done.stdout).split())
    return None if done.returncode == 0 else said or f"exit code {done.returncode}"


def make(kind: str, place: Path, made: Path, call: Call) -> bool:
    """Have macOS sign or compile what was written; return whether it did, and warn if not."""
    tools = {"shortcut": shortcut.sign, "applescript": applescript.compiling}
    return _try(call, tools[kind](str(place), str(made)))


def tell(entry: Entry, call: Call) -> None:
    """Have macOS know what was installed; warn where it refuses."""
    name = Path(entry.place).name
    if entry.kind == "launch-agent":
        call(_bootout(entry))  # an earlier one, if there is one
        _try(call, launchd.bootstrap(entry.place))
    elif entry.kind == "folder-action" and entry.folder:
        _try(call, _osascript(_BIND, entry.folder, name, entry.place))
    elif entry.kind in ("quick-action", "finder"):
        _refresh(call)


def forget(entry: Entry, call: Call) -> None:
    """Have macOS forget what is removed; warn where it refuses."""
    if entry.kind == "launch-agent":
        call(_bootout(entry))  # it may not be loaded
    elif entry.kind == "folder-action" and entry.folder:
        _try(call, _osascript(_UNBIND, entry.folder, Path(entry.place).name))
    elif entry.kind in ("quick-action", "finder"):
        _refresh(call)


def commands(entry: Entry) -> list[str]:
    """Return what `tell` would run, as lines for the shell of whoever it is for."""
    said: list[Sequence[str]] = []
    tell(entry, said.append)
    lines = [text.sh(*words) for words in said if "bootout" not in words]
    return [line.replace(launchd.domain(), "gui/$(id -u)", 1) for line in lines]


def _try(call: Call, words: list[str]) -> bool:
    if wrong := call(words):
        warnings.warn(f"{Path(words[0]).name} did not: {wrong}", stacklevel=3)
    return not wrong


def _refresh(call: Call) -> None:
    """Have the Services menu be read anew."""
    _try(call, [_PBS, "-flush"])
    _try(call, [_PBS, "-update"])


def _osascript(script: str, *arguments: str) -> list[str]:
    return ["/usr/bin/osascript", "-e", script, *arguments]


def _bootout(entry: Entry) -> list[str]:
    return launchd.bootout(Path(entry.place).name.removesuffix(".plist"))
