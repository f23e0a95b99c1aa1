"""Prompt lookup: guess the next output tokens, so that one model step checks several.

A step that is fed the last token and a draft gives the best token after each of them. What
agrees with the draft is output that a step apart would have given; the first that does not is
output as well, and the rest was in vain. So the output is plain greedy decoding's, whatever is
drafted, and only the number of steps depends on it.

Most outputs worth drafting walk along their input and change some of it. So a row keeps a place
in its input, and what comes next is either copied from near that place or a token that is put
there. Which of them, a `Habit` counts for each of four contexts, and the surest one decides:

    (last output token, input token at the place)       after `":`, `True` becomes `true`
    (last two output tokens)                            after `_name` and `":` comes ` "`
    (input token at the place, tokens put there)        `','` becomes `",` and then ` "`
    (tokens put there, tokens copied in a row)          how well plain copying goes

A draft goes on only while all of it is likely to be right, as guesses that looked as good were
so far. After several drafts that were wrong from their first token on there is a pause, ever
longer. A token costs some 3 µs, drafted or taken in, whatever the input's length.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from ...program import Template
from ..base.tokenizer import Tokenizer

MAX_DRAFT = 7  # with the last token a step of 8, the widest that Metal's vector attention takes
_LIKELY = 0.3  # a draft goes on while it is right to its end with this probability
_MAX_MISSES, _MAX_PAUSE = 5, 31  # wrong drafts in a row before a pause, and steps of one
_NEAR = (1, 2, 3, 4, 5, -1, -2, -3)  # distances from the place that count as a copy, besides 0
_COPY = 1 << 32  # an outcome is a token's id, or this plus a distance
_MOST = 3  # tokens put or copied in a row are counted up to here
_MEMORY = 12  # after so many outcomes of a context, what is older counts half
_FORGIVEN = 0.97  # how much of a rate is left after a step that it kept from drafting
_MAX_CONTEXTS = 8192  # about 2 MB
_NOTHING = -1  # the token before the first one, and outside the input

_Context = tuple[int, int, int]  # which of the four (the last is 3, or 4 at the input's end)
_Bucket = tuple[int, int]


class _Place(NamedTuple):
    """Where a row stands in its output and in its input."""

    before: int  # the last two output tokens
    last: int
    at: int  # the index of the input token that is due
    put: int  # tokens put here since the last copy
    copied: int  # tokens copied in a row up to here


class _Count:
    """What a context led to: the usual outcome, and how often among those seen it came."""

    __slots__ = ("hits", "outcome", "seen")

    def __init__(self, outcome: int) -> None:
        self.outcome, self.hits, self.seen = outcome, 0.0, 0.0

    @property
    def chance(self) -> float:
        return (self.hits + 0.5) / (self.seen + 1)

    def learn(self, outcome: int) -> None:
        """Count an outcome; a usual one that fails too often gives way to it."""
        if self.seen >= _MEMORY:
            self.hits, self.seen = self.hits / 2, self.seen / 2
        self.seen += 1
        if outcome == self.outcome:
            self.hits += 1
        elif self.hits < 1.5:
            self.outcome, self.hits, self.seen = outcome, 1, 2
        else:
            self.hits -= 0.5


class _Rate:
    """How often guesses that looked equally good were right."""

    __slots__ = ("right", "tried")

    def __init__(self) -> None:
        self.right, self.tried = 0.0, 0.0

    def learn(self, is_right: bool) -> None:
        self.right, self.tried = self.right + is_right, self.tried + 1

    def forgive(self) -> None:
        self.right, self.tried = self.right * _FORGIVEN, self.tried * _FORGIVEN

    def correct(self, chance: float) -> float:
        return (self.right + 2 * chance) / (self.tried + 2)


class _Guess(NamedTuple):
    outcome: int
    chance: float
    rate: _Rate


class Habit:
    """How one program turns inputs into outputs; its rows may share it, within one thread.

    `ends` are the tokens that end an output: a draft stops before them.
    """

    def __init__(self, ends: Collection[int] = ()) -> None:
        self.ends = frozenset(ends)
        self._counts: dict[_Context, _Count] = {}
        self._rates: dict[_Bucket, _Rate] = {}

    @classmethod
    def of(cls, template: Template, tokenizer: Tokenizer, ends: Sequence[int]) -> Habit:
        """Learn what the examples in a template show; of `ends` the first ends them."""
        habit = cls(ends)
        for text, output in read_examples(template.prefix):
            tokens = tokenizer.encode_input(text, template.suffix)
            habit.learn(tokens, [*tokenizer.encode(output), *ends[:1]])
        return habit

    def learn(self, tokens: Sequence[int], output: Sequence[int]) -> None:
        """Take in the tokens of an input and of its output, the end included."""
        Lookup(tokens, self).push(output)

    def guess(self, contexts: Sequence[_Context]) -> _Guess:
        """Return the surest guess; where nothing is known, that the next input token is copied."""
        best: _Guess | None = None
        for context in contexts:
            count = self._counts.get(context)
            if count is None:
                if context[0] < 3:
                    continue
                count = _Count(_COPY)
            chance = count.chance
            bucket = context[0], int(10 * chance)
            rate = self._rates.get(bucket)
            if rate is None:
                rate = self._rates[bucket] = _Rate()
            chance = rate.correct(chance)
            if best is None or chance > best.chance:
                best = _Guess(count.outcome, chance, rate)
        assert best is not None  # the last context always has a guess
        return best

    def count(self, context: _Context, outcome: int) -> None:
        """Remember what a context led to."""
        count = self._counts.get(context)
        if count is None:
            if len(self._counts) >= _MAX_CONTEXTS:
                self._forget()
            count = self._counts[context] = _Count(outcome)
        count.learn(outcome)

    def _forget(self) -> None:
        """Drop what was seen once, and the older ones of the rest."""
        often = [item for item in self._counts.items() if item[1].seen > 1]
        self._counts = dict(often[-_MAX_CONTEXTS // 2 :])


class Lookup:
    """Drafts for one row. `tokens` are its input's, with the template's suffix or without.

    For the same tokens and a habit in the same state, the drafts are the same.
    """

    def __init__(self, tokens: Sequence[int], habit: Habit | None = None) -> None:
        self._tokens = tokens
        self._habit = Habit() if habit is None else habit
        self._place = _Place(_NOTHING, _NOTHING, 0, 0, 0)
        self._draft: list[tuple[int, _Rate]] = []
        self._misses = self._pause = 0
        self._after: dict[tuple[int, int], int] = {}  # two input tokens -> the index after them
        for i in range(len(tokens) - 1, 0, -1):
            self._after[tokens[i - 1], tokens[i]] = i + 1

    def propose(self, limit: int = MAX_DRAFT) -> list[int]:
        """Return what probably comes next, at most `limit` tokens; [] where it does not pay."""
        self._draft = []
        if self._pause:
            self._pause -= 1
            return []
        place, chance = self._place, 1.0
        while len(self._draft) < limit:
            guess = self._habit.guess(self._contexts(place))
            chance *= guess.chance
            if chance < _LIKELY:
                if not self._draft:
                    guess.rate.forgive()  # so that it has another try some day
                break
            place = self._next(place, guess.outcome)
            if place.last == _NOTHING or place.last in self._habit.ends:
                break
            self._draft.append((place.last, guess.rate))
        return [token for token, _ in self._draft]

    def push(self, tokens: Sequence[int]) -> None:
        """Take in what a step gave: the part of the draft that was right, and the token after."""
        self._judge(tokens)
        for token in tokens:
            place = self._place
            outcome = self._outcome(place.at, token)
            for context in self._contexts(place):
                by_chance = context[0] == 1 and outcome != _COPY  # it knows no place to be near to
                self._habit.count(context, token if by_chance else outcome)
            self._place = self._next(place, outcome)
            if outcome == token:  # not from near: two tokens that the input has say where we are
                found = self._after.get((place.last, token))
                if found is not None:
                    self._place = _Place(place.last, token, found, 0, 2)

    def _judge(self, tokens: Sequence[int]) -> None:
        """Note which guesses of the draft were right, up to the first that was not."""
        for (guessed, rate), token in zip(self._draft, tokens, strict=False):
            rate.learn(guessed == token)
            if guessed != token:
                break
        if self._draft and tokens:
            self._misses = 0 if self._draft[0][0] == tokens[0] else self._misses + 1
            if self._misses > _MAX_MISSES:
                self._pause = min(2 ** (self._misses - _MAX_MISSES) - 1, _MAX_PAUSE)
        self._draft = []

    def _contexts(self, place: _Place) -> tuple[_Context, ...]:
        due = self._due(place.at)
        return (
            (0, place.last, due),
            (1, place.before, place.last),
            (2, due, place.put),
            (3 if due != _NOTHING else 4, place.put, place.copied),
        )

    def _outcome(self, at: int, token: int) -> int:
        """Return how a token came about: copied from the place or near it, or put there."""
        if self._due(at) == token:
            return _COPY
        for distance in _NEAR:
            if self._due(at + distance) == token:
                return _COPY + distance
        return token

    def _next(self, place: _Place, outcome: int) -> _Place:
        """Return the place after an outcome; its last token is _NOTHING where none is copied."""
        distance = outcome - _COPY
        if distance < _NEAR[-1]:
            return _Place(place.last, outcome, place.at, min(place.put + 1, _MOST), 0)
        at = place.at + distance
        copied = 0 if distance else min(place.copied + 1, _MOST)
        return _Place(place.last, self._due(at), at + 1, 0, copied)

    def _due(self, at: int) -> int:
        return self._tokens[at] if 0 <= at < len(self._tokens) else _NOTHING


def read_examples(prefix: str) -> list[tuple[str, str]]:
    """Return the (input, output) pairs that a pseudo-program shows, as `prompts` writes them."""
    shown = prefix.partition("\n[END_PSEUDO_PROGRAM]")[0].split("\nInput: ")[1:]
    pairs = (pair.partition("\nOutput: ") for pair in shown)
    return [(text, output) for text, found, output in pairs if found]
