"""A pseudo-program without a model: the spec as its task, the pairs that stand in it as examples.

What the embedded compiler was trained on, and all that it needs; a pseudo-compiler of 4B would
restate the spec and invent examples instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .. import prompts
from ..progress import Progress, quiet
from .pseudo import Room, check_length

_PAIR = re.compile(r"^Input: *(.*)\nOutput: *(.*)$", re.MULTILINE)


class SpecWriter:
    """Stands where a pseudo-compiler does, and needs no model."""

    def write(self, spec: str, room: Room, report: Progress = quiet) -> str:
        """Write the pseudo-program of a spec; CompileError if the spec is too long."""
        return check_length(write_pseudo_program(spec), room)

    def record(self) -> dict[str, str]:
        """Return what a program records of it."""
        return {"pseudo_compiler": "none: the spec as it stands"}

    def close(self) -> None:
        """Do nothing: nothing is held."""


def write_pseudo_program(spec: str, examples: Iterable[tuple[str, str]] = ()) -> str:
    """Return the pseudo-program of a spec: what it says, its own pairs, then more `examples`."""
    task, shown = split_examples(spec)
    return prompts.pseudo_program(task, [*shown, *examples])


def split_examples(spec: str) -> tuple[str, list[tuple[str, str]]]:
    """Part the pairs of lines `Input: …`, `Output: …` from what else a spec says.

    A spec of pairs alone stays as it is: a task has to say something.
    """
    shown = [(text.strip(), output.strip()) for text, output in _PAIR.findall(spec)]
    task = re.sub(r"\n{2,}", "\n", _PAIR.sub("", spec)).strip()
    return (task, shown) if task else (spec.strip(), [])
