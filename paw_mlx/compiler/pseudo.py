"""The pseudo-compiler: an English spec becomes a pseudo-program.

Any instruct model that mlx_lm loads may write it. The answer is checked before it is used:
one sentence says what is wrong, and the model is asked again with that sentence, twice at
most. Nothing is ever truncated. What passed is kept on disk, by spec, model and instruction.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mlx.core as mx

from .. import settings
from ..errors import CompileError, OptionError, PseudoProgramError
from ..files import replacing
from ..formats.fingerprint import fingerprint
from ..progress import Progress, quiet
from .chat import ChatModel, Message

MAX_TOKENS, ATTEMPTS = 512, 3
START, END = "[PSEUDO_PROGRAM]", "[END_PSEUDO_PROGRAM]"
_TASK = re.compile(r"Task:\s*(?!Examples:|Input:)\S")
_PAIR = re.compile(r"^Input:\s*(?!Output:)\S.*?^Output:", re.MULTILINE | re.DOTALL)

INSTRUCTION = """\
You turn the specification of a text function into a pseudo-program: the complete brief for a \
small model that will carry the function out. The small model reads your pseudo-program and one \
input at a time. It never sees the specification, so whatever you leave out is lost.

Answer with one block of exactly this form, and nothing before or after it:

[PSEUDO_PROGRAM]
Task: <one paragraph>

Examples:
Input: <an input>
Output: <the exact output for it>
Input: <another input>
Output: <the exact output for it>
[END_PSEUDO_PROGRAM]

Rules:
- The task is one paragraph. It restates every requirement of the specification: what comes in, \
what to do with it, each label, rule, exception and edge case, and the exact form of the output. \
Copy labels, keys, numbers and fixed wording letter by letter, and add no rules of your own.
- Say what to do rather than what to avoid. Where the output is one of a few labels, end the \
task with: Return ONLY one of: and the labels.
- Give three to six examples. Keep those of the specification unchanged, and invent realistic \
inputs for the others. Together they show every label and the difficult cases, and every output \
is exactly what the function returns: no explanation, no quotes, no code fence around it.
- Stay below 250 words, and always close with [END_PSEUDO_PROGRAM].
- The specification is material to restate. Do not carry it out.

For example, this specification:

[SPEC]
Which team should get a customer's message? Parcels that are late or lost: delivery. Invoices, \
refunds, double charges: billing. Everything else: other. "Where is my parcel?" is delivery.
[END_SPEC]

becomes this pseudo-program:

[PSEUDO_PROGRAM]
Task: Read a customer's message and name the team that should get it. delivery for parcels that \
are late or lost, billing for invoices, refunds and double charges, other for everything else. \
Return ONLY one of: delivery, billing, other

Examples:
Input: Where is my parcel?
Output: delivery
Input: You took the 30 euros twice, I want one payment back.
Output: billing
Input: The invoice came today, the parcel still has not.
Output: delivery
Input: Do you have shops in Leeds?
Output: other
[END_PSEUDO_PROGRAM]

Now write the pseudo-program of the following specification."""


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
        self._path = path
        self._instruction = (INSTRUCTION if instruction is None else instruction).strip()
        if not self._instruction:
            raise OptionError("the instruction is empty")
        self._model: ChatModel | None = None

    @property
    def instruction_sha256(self) -> str:
        """Which wording the model was given."""
        return _sha256(self._instruction)

    def record(self) -> dict[str, str]:
        """Return what a program records of it."""
        return {
            "pseudo_compiler_fingerprint": self.fingerprint,
            "instruction_sha256": self.instruction_sha256,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Which weights were asked."""
        return fingerprint(self._path)

    def write(self, spec: str, room: Room, report: Progress = quiet) -> str:
        """Write the pseudo-program of a spec, or take it from disk if it was written before.

        Raises InputTooLong for a spec that exceeds the model's window, PseudoProgramError if no
        attempt passed `check`, NotFound or FormatError if the model does not load.
        """
        key = _sha256(json.dumps([spec, self.fingerprint, self._instruction]))
        file = settings.cache_dir() / "pseudo-programs" / f"{key}.txt"
        if pseudo := _read_kept(file, room):
            return pseudo
        pseudo = self._ask_until_sound(spec, room, report)
        with replacing(file) as temporary:
            temporary.write_text(pseudo, encoding="utf-8", newline="\n")
        return pseudo

    def close(self) -> None:
        """Drop the model; the next `write` that needs it loads it again."""
        if self._model is not None:
            self._model.close()
            self._model = None
        mx.clear_cache()

    def _ask_until_sound(self, spec: str, room: Room, report: Progress) -> str:
        if self._model is None:
            report("loading the pseudo-compiler")
            self._model = ChatModel(self._path)
            self._model.share([self._ask("A")], [self._ask("1")])
        messages = [self._ask(spec)]
        report("writing the pseudo-program")
        for attempt in range(1, ATTEMPTS + 1):
            answer = self._model.answer(messages, MAX_TOKENS, _is_closed)
            try:
                pseudo = check(answer, room)
                if pseudo in self._instruction:
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

    def _ask(self, spec: str) -> Message:
        # One message: not every chat template takes a system role.
        return _message("user", f"{self._instruction}\n\n[SPEC]\n{spec}\n[END_SPEC]")


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
