"""Which pairs are kept: of the right type, new, and such as two answers agree on."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

from ..interpreter.engine.grammar import Acceptor
from ..output import Labels, Output, Regex, Schema

# Why a pair is dropped, in the words of the report.
MALFORMED = "malformed"
NO_ANSWER = "no usable answer"
COPIED = "copied from the question"
TOO_SHORT = "input too short"
TOO_LONG = "too long"
DUPLICATE = "duplicate"
SAME_SHAPE = "duplicate but for names and numbers"
CONTRADICTION = "contradicts another"
WRONG_TYPE = "output of another type"
DISAGREEMENT = "two answers disagree"
ENOUGH = "enough of its label"

MAX_CHARS = 4000  # of an input, or an output
_AGREEMENT = 0.5  # F1 of their words, from which on two free texts agree
_MASKS = (
    (re.compile(r"\S+@\S+|https?://\S+|(?<!\w)/\S+"), " 0 "),
    (re.compile(r"\w*\d(?:[\w.,:/-]*\w)?"), " 0 "),
    (re.compile(r"(?<=[^\s.!?:;\n] )[^\W\d_a-z][\w'’-]+"), " 0 "),  # a capital amid a sentence
)
_MIN_WORDS = 3  # besides what is masked, that a shape needs to be one


class Sieve:
    """Hears of pairs, and says which are not to be kept, and why."""

    def __init__(self, output: Output, copied: Iterable[str], per_output: float):
        """Take the outputs' type, inputs that were shown, and how many may share one output."""
        self._output, self._per_output = output, per_output
        self._copied = {normalize(text) for text in copied}
        self._outputs: dict[str, str] = {}  # of a kept input
        self._shapes: set[tuple[str, str]] = set()
        self.by_output: Counter[str] = Counter()
        accepts: Callable[[str], bool] = bool
        if isinstance(output, Schema | Regex):
            accepts = Acceptor(output)
        self._accepts = accepts

    def judge(self, text: str, output: str) -> tuple[str, str]:
        """Return an output as it is to be learned, and why its pair is not kept; empty if it is."""
        if len(text) > MAX_CHARS or len(output) > MAX_CHARS:
            return "", TOO_LONG
        if not (plain := normalize(text)):
            return "", TOO_SHORT
        if plain in self._copied:
            return "", COPIED
        if (read := self.read(output)) is None:
            return "", WRONG_TYPE
        known = self._outputs.get(plain)
        if known is not None:
            return read, DUPLICATE if known == read else CONTRADICTION
        if (_shape(text), read) in self._shapes:
            return read, SAME_SHAPE
        return read, ENOUGH if self.by_output[read] >= self._per_output else ""

    def read(self, output: str) -> str | None:
        """Return an output as it is to be learned, or None if it is not of the type."""
        if isinstance(self._output, Labels):
            return _find_label(self._output, output)
        if isinstance(self._output, Schema):
            try:
                output = json.dumps(json.loads(output), ensure_ascii=False, allow_nan=False)
            except (ValueError, RecursionError):
                return None
        return output if self._accepts(output) else None

    def agree(self, one: str, other: str) -> bool:
        """Whether two outputs say the same; of free text, whether half of their words (F1) do."""
        if isinstance(self._output, Labels | Schema | Regex):
            return one == other
        a, b = (Counter(re.findall(r"\w+", normalize(text))) for text in (one, other))
        return one == other or 2 * (a & b).total() >= _AGREEMENT * (a + b).total() > 0

    def add(self, text: str, output: str) -> None:
        """Hear of a pair that is kept."""
        self._outputs[normalize(text)] = output
        self.by_output[output] += 1
        if shape := _shape(text):
            self._shapes.add((shape, output))


def normalize(text: str) -> str:
    """Return a text in one case, with single blanks and without a full stop at its end."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.rstrip(" .!") or folded


def _shape(text: str) -> str:
    """Return a text with names and numbers masked; empty if that leaves too few words."""
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    shape = normalize(text)
    words = [word for word in re.findall(r"\w+", shape) if word != "0"]
    return shape if len(words) >= _MIN_WORDS else ""


def _find_label(output: Labels, text: str) -> str | None:
    """Return the label that a text is, in any case and with or without a full stop."""
    text = text.strip()
    if text in output.places:
        return text
    alike = [one for one in output.labels if one.casefold() == text.rstrip(" .").casefold()]
    return alike[0] if len(alike) == 1 else None
