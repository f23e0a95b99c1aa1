"""A pseudo-compiler that is a script, and cases of which its programs get more or fewer right.

Its pseudo-programs differ in two words. Mapper and interpreter are the tiny Qwen3's own: with
random weights a word changes much of what a program says, so one compile is a lottery, and what
one program says of the inputs is right by definition.
"""

from __future__ import annotations

import functools
import random
from typing import Any

from compiling_repos import PSEUDO_PROGRAM, converted, interpreter

from paw_mlx import Compiler, Interpreter, Labels
from paw_mlx.cases import Case
from paw_mlx.compiler.encoder import Encoder
from paw_mlx.compiler.pseudo import Room
from paw_mlx.compiler.target import Target
from paw_mlx.compiler.wordings import PLAIN, Draw
from paw_mlx.errors import CompileError
from paw_mlx.formats.checkpoint import Checkpoint
from paw_mlx.progress import Progress, quiet

TASK = "Sort the words."
LABELS = Labels(("down", "ALERT"))
ADVICE = [
    "Please",
    "Always",
    "Never mind",
    "Quickly",
    "Be kind",
    "In short",
    "As a rule",
    "Think twice",
]
_WORDS = ["disk", "server", "picnic", "Friday", "down", "spring", "all", "full", "welcome", "and"]
INPUTS = [f"{a} {b}{c}" for c in ("", " it") for a in _WORDS for b in _WORDS]


class ScriptedWriter:
    """Writes two words of advice by chance; `asked` are the draws.

    Draws in `fails` fail; `always` is written instead of all others.
    """

    def __init__(self, *fails: int, always: str | None = None) -> None:
        self.asked: list[Draw] = []
        self._fails, self._always = fails, always

    def write(self, spec: str, room: Room, report: Progress = quiet, draw: Draw = PLAIN) -> str:
        self.asked.append(draw)
        if draw.number in self._fails:
            raise CompileError(f"no pseudo-program from draw {draw.number}")
        chance = random.Random(draw.chance)
        return self._always or advised(chance.choice(ADVICE), chance.choice(ADVICE))

    def record(self, draw: Draw = PLAIN) -> dict[str, Any]:
        return {"script": draw.number}

    def describe(self, draw: Draw, spec: str) -> str:
        return f"draw {draw.number}"

    def close(self) -> None:
        pass


def advised(first: str, second: str) -> str:
    """A pseudo-program with two words of advice."""
    return PSEUDO_PROGRAM.replace("QUIET if not.", f"QUIET if not. {first}, {second}.")


def compiler(writer: Any) -> Compiler:
    """The tiny Qwen3 compiler, with this writer."""
    checkpoint = Checkpoint.read(converted("qwen3"))
    encoder, target = Encoder(checkpoint), Target.read(interpreter("qwen3"))
    return Compiler(checkpoint, target, encoder, lambda: writer)


@functools.cache
def cases() -> list[Case]:
    """What the program of one pseudo-program says, but for one in twenty."""
    program = compiler(None).compile(
        TASK, pseudo_program=advised("Never mind", "In short"), output=LABELS
    )
    with Interpreter.load(str(interpreter("qwen3"))) as runner:
        said = list(runner.function(program).map(INPUTS))
    other = {"down": "ALERT", "ALERT": "down"}
    return [
        Case(text, other[label] if number % 20 == 7 else label)
        for number, (text, label) in enumerate(zip(INPUTS, said, strict=True))
    ]
