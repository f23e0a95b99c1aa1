"""The pseudo-compiler: an English spec becomes a pseudo-program.

Any instruct model that mlx_lm loads may write it. The answer is checked before it is used:
one sentence says what is wrong, and the model is asked again with that sentence, twice at
most. Nothing is ever truncated. What passed is kept on disk, by spec, model and instruction, and
for what was sampled by temperature and seed, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx

from .. import settings
from ..errors import CompileError, OptionError, PseudoProgramError
from ..files import replacing
from ..formats.fingerprint import fingerprint
from ..progress import Progress, quiet
from .chat import ChatModel, Message
from .wordings import INSTRUCTIONS, PLAIN, Draw

MAX_TOKENS, ATTEMPTS = 512, 3
START, END = "[PSEUDO_PROGRAM]", "[END_PSEUDO_PROGRAM]"
_TASK = re.compile(r"Task:\s*(?!Examples:|Input:)\S")
_PAIR = re.compile(r"^Input:\s*(?!Output:)\S.*?^Output:", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Room:
    """The tokens that a pseudo-program's template takes, and how many it may take."""

    count: Callable[[str], int]
    limit: int


def check(text: str, room: Room, *, pairs: bool = True) -> str:
    """Return the pseudo-program in a text, markers included, without what stands around it.

    With `pairs` it needs an example. CompileError says what is wrong with it, and its hint how to
    write it better.
    """
    text = text.replace("\r\n", "\n")
    starts, ends = text.count(START), text.count(END)
    if not starts:
        raise CompileError(f"the pseudo-program lacks {START}", hint=f"Begin it with {START}.")
    if not ends:
        raise CompileError(
            f"the pseudo-program is not closed by {END}",
            hint=f"Write a shorter one, and close it with {END}.",
        )
    if starts > 1 or ends > 1 or text.index(END) < text.index(START):
        raise CompileError(
            f"there are {starts} {START} and {ends} {END}, not one of each in this order",
            hint="Write one pseudo-program.",
        )
    body = text[text.index(START) + len(START) : text.index(END)].strip()
    if not _TASK.match(body):
        raise CompileError(
            "the pseudo-program has no task",
            hint=f"After {START}, write a line that begins with `Task: `.",
        )
    if pairs and not _PAIR.search(body):
        raise CompileError(
            "the pseudo-program has no example with an input and an output",
            hint="Write lines that begin with `Input: `, each followed by its `Output: `.",
        )
    return check_length(text[text.index(START) : text.index(END) + len(END)], room)


def check_length(pseudo: str, room: Room) -> str:
    """Return a pseudo-program; CompileError if it leaves too little room."""
    if (num_tokens := room.count(pseudo)) > room.limit:
        raise CompileError(
            f"the prompt with the pseudo-program takes {num_tokens} tokens, and {room.limit} fit",
            hint="Write a shorter one: fewer and shorter examples, no word too many.",
        )
    return pseudo


class PseudoCompiler:
    """Writes pseudo-programs with the model in a folder, loaded when it is first needed."""

    def __init__(self, path: Path, instruction: str | None = None) -> None:
        """Take a model's folder, and what to tell it instead of our own wordings."""
        self._path = path
        self._instructions = INSTRUCTIONS if instruction is None else (instruction.strip(),)
        if not all(self._instructions):
            raise OptionError("the instruction is empty")
        self._model: ChatModel | None = None
        self._shared = ""  # the instruction that the model has evaluated

    def record(self, draw: Draw = PLAIN) -> dict[str, Any]:
        """Return what a program records of it."""
        record: dict[str, Any] = {
            "pseudo_compiler_fingerprint": self.fingerprint,
            "instruction_sha256": _sha256(self._instruction(draw)),
        }
        if draw.temperature:
            record |= {"temperature": draw.temperature, "seed": draw.chance}
        return record

    def describe(self, draw: Draw, spec: str) -> str:
        """Say in a few words how a draw is written."""
        if not draw.temperature:
            return "as always, greedily"
        wording = draw.number % len(self._instructions) + 1
        return f"wording {wording}, at temperature {draw.temperature:g}"

    @cached_property
    def fingerprint(self) -> str:
        """Which weights were asked."""
        return fingerprint(self._path)

    def write(self, spec: str, room: Room, report: Progress = quiet, draw: Draw = PLAIN) -> str:
        """Write the pseudo-program of a spec, or take it from disk if it was written before.

        Raises InputTooLong for a spec that exceeds the model's window, PseudoProgramError if no
        attempt passed `check`, NotFound or FormatError if the model does not load.
        """
        parts: list[object] = [spec, self.fingerprint, self._instruction(draw)]
        if draw.temperature:
            parts += [draw.temperature, draw.chance]
        file = settings.cache_dir() / "pseudo-programs" / f"{_sha256(json.dumps(parts))}.txt"
        if pseudo := _read_kept(file, room):
            return pseudo
        pseudo = self._ask_until_sound(spec, room, report, draw)
        with replacing(file) as temporary:
            temporary.write_text(pseudo, encoding="utf-8", newline="\n")
        return pseudo

    def close(self) -> None:
        """Drop the model; the next `write` that needs it loads it again."""
        if self._model is not None:
            self._model.close()
            self._model = None
        mx.clear_cache()

    def _instruction(self, draw: Draw) -> str:
        return self._instructions[draw.number % len(self._instructions)]

    def _ask_until_sound(self, spec: str, room: Room, report: Progress, draw: Draw) -> str:
        instruction = self._instruction(draw)
        if self._model is None:
            report("loading the pseudo-compiler")
            self._model, self._shared = ChatModel(self._path), ""
        if self._shared != instruction:
            self._model.share([_ask(instruction, "A")], [_ask(instruction, "1")])
            self._shared = instruction
        messages = [_ask(instruction, spec)]
        report("writing the pseudo-program")
        for attempt in range(1, ATTEMPTS + 1):
            answer = self._model.answer(
                messages, MAX_TOKENS, _is_closed, temperature=draw.temperature, seed=draw.chance
            )
            try:
                pseudo = check(answer, room)
                if pseudo in instruction:
                    raise CompileError(
                        "it repeats the example of the instruction",
                        hint="Write the pseudo-program of the specification given after it.",
                    )
                return pseudo
            except CompileError as error:
                # Not the error itself: its traceback would hold this frame, and the model.
                fault, way_out = str(error), " ".join(error.hints)
            if attempt < ATTEMPTS:
                report(f"asking again, {attempt + 1} of {ATTEMPTS}: {fault}")
                wish = f"That cannot be used: {fault}. {way_out}"
                messages += [_message("assistant", answer), _message("user", wish)]
        raise PseudoProgramError(
            f"{ATTEMPTS} attempts gave no usable pseudo-program; at last {fault}", answer
        )


def _ask(instruction: str, spec: str) -> Message:
    # One message: not every chat template takes a system role.
    return _message("user", f"{instruction}\n\n[SPEC]\n{spec}\n[END_SPEC]")


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _is_closed(answer: str) -> bool:
    """Return whether a pseudo-program is complete, so that nothing more need be decoded."""
    return END in answer.partition(START)[2]


def _read_kept(file: Path, room: Room) -> str | None:
    """Read a pseudo-program written before, if it is sound and fits the room."""
    try:
        return check(file.read_text(encoding="utf-8"), room)
    except (OSError, ValueError, CompileError):
        return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
