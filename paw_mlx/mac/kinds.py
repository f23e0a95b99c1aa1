"""The kinds of what can be installed: a word for each, and what makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .agent import launch_agent
from .alfred import alfred
from .applescript import applescript
from .automator import finder, folder_action, quick_action
from .plan import Plan, Request
from .raycast import raycast
from .shortcut import shortcut


@dataclass(frozen=True)
class Kind:
    """A kind: `plan` says what would be written, `options` which of `Request`'s it takes.

    `needs_home`: it is found only where macOS looks for it, in a home.
    """

    plan: Callable[[Request], Plan]
    options: frozenset[str] = frozenset()
    needs_home: bool = True


KINDS = {
    "quick-action": Kind(quick_action, frozenset({"replace"})),
    "shortcut": Kind(shortcut, needs_home=False),
    "folder-action": Kind(folder_action, frozenset({"folder", "to"})),
    "launch-agent": Kind(launch_agent, frozenset({"folder", "to", "at"})),
    "raycast": Kind(raycast, needs_home=False),
    "alfred": Kind(alfred),
    "applescript": Kind(applescript),
    "finder": Kind(finder),
}
