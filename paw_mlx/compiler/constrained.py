"""What a chat model's answer may be: an output's type in the model's own tokens.

The same constraints as an interpreter's: a grammar for a schema or a regex; of labels a trie, one
of whose paths is the answer, since here one is to be said, and not all to be weighed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..interpreter.base.tokenizer import Tokenizer
from ..interpreter.engine.constraint import Constraint
from ..interpreter.engine.grammar import Grammar, make_vocabulary
from ..output import Labels, Output, Regex, Schema

_SEPARATORS = (", ", ": ")  # json.dumps' own


class Constraints:
    """The constraints of one output's type for one chat model; each answer starts its own."""

    def __init__(self, output: Output, path: Path, ends: Sequence[int]) -> None:
        """Take a type, the model's folder and the ids that end an answer.

        OptionError for a type that no output could have, or that needs what is not installed.
        """
        self._grammar: Grammar | None = None
        self._texts: list[tuple[int, ...]] = []
        if not isinstance(output, Labels | Schema | Regex):
            return
        tokenizer = Tokenizer.from_file(path / "tokenizer.json")
        if isinstance(output, Labels):
            self._texts = [(*tokenizer.encode(label), ends[0]) for label in output.labels]
        else:
            self._grammar = Grammar(make_vocabulary(tokenizer, ends), output, _SEPARATORS)

    def start(self) -> Constraint | None:
        """Return the constraint of a new answer; None where it may be any text."""
        if self._grammar:
            return self._grammar.start()
        return OneOf(self._texts) if self._texts else None


class OneOf:
    """One of some texts, in tokens, their end included; a `Constraint`."""

    def __init__(self, texts: Sequence[tuple[int, ...]]) -> None:
        self._texts, self._num_tokens = list(texts), 0

    def forced(self, limit: int) -> list[int]:
        """Return the tokens that alone can come now, at most `limit`."""
        shortest, longest = min(self._texts), max(self._texts)
        tokens = []
        for a, b in zip(shortest[self._num_tokens :], longest[self._num_tokens :], strict=False):
            if a != b:
                break
            tokens.append(a)
        return tokens[:limit]

    def allowed(self, draft: Sequence[int]) -> np.ndarray:
        """Return which tokens may follow each part of a draft: bool (1 + len(draft), V)."""
        may = np.zeros((1 + len(draft), 1 + max(map(max, self._texts))), bool)
        texts = self._texts
        for place in range(1 + len(draft)):
            depth = self._num_tokens + place
            if place:
                texts = [text for text in texts if text[depth - 1] == draft[place - 1]]
            texts = [text for text in texts if len(text) > depth]
            may[place, [text[depth] for text in texts]] = True
        return may

    def push(self, tokens: Sequence[int]) -> None:
        """Hear the tokens that were taken."""
        for token in tokens:
            place = self._num_tokens
            texts = [text for text in self._texts if text[place : place + 1] == (token,)]
            self._texts, self._num_tokens = texts, place + 1
