"""Have a teacher write the pairs of a function: rounds of questions, a sieve, a file that grows.

In a round the teacher writes pairs to some facets, and then gives the output of each new input
once more, by itself. A pair is kept if both answers agree (self-consistency, arXiv 2203.11171).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..errors import OptionError
from ..output import Labels
from . import sieve as why
from .answers import read_output, read_pairs, read_strings
from .function import Function
from .pairs_file import PairsFile, State
from .questions import MAX_TOPICS, PAIRS_A_QUESTION, Questioner
from .report import PairsReport
from .sieve import normalize
from .teacher import Teacher

DEFAULT_PAIRS = 600
QUESTIONS_A_ROUND = 4
IDLE_ROUNDS = 5  # without a pair that is kept, after which it gives up
_MIN_TOPICS, _TOPIC_CHARS = 4, 80

Report = Callable[[PairsReport], None]


def write_pairs(
    function: Function,
    teacher: Teacher,
    path: Path,
    num_pairs: int = DEFAULT_PAIRS,
    *,
    seed: int = 0,
    report: Report = lambda so_far: None,
    deadline_s: float = math.inf,
) -> PairsReport:
    """Write pairs to a JSONL file until it holds `num_pairs`; go on with what it holds.

    `report` hears of each pair and each round. It gives up after IDLE_ROUNDS rounds that kept
    nothing, or once `deadline_s` seconds have gone by, and says so in `stopped`. OptionError for a
    file that was begun otherwise; errors of the teacher leave the file as far as it is.
    """
    if num_pairs < 1:
        raise OptionError(f"the number of pairs must be at least 1, not {num_pairs}")
    terms = function.record() | {"teacher": teacher.name, "seed": seed}
    with PairsFile.open(path, terms) as file:
        writer = _Writer(function, teacher, file, num_pairs, seed, report)
        try:
            return writer.run(deadline_s)
        finally:
            teacher.close()


class _Writer:
    """One run over a file of pairs."""

    def __init__(
        self,
        function: Function,
        teacher: Teacher,
        file: PairsFile,
        num_pairs: int,
        seed: int,
        report: Report,
    ) -> None:
        self._function, self._teacher, self._file = function, teacher, file
        self._questioner = Questioner(function.spec, function.output, seed)
        self._sieve = function.sieve(num_pairs)
        self._report, self._start = report, time.perf_counter()
        self._num_pairs = num_pairs
        for pair in file.pairs:
            self._sieve.add(pair.input, pair.output)
        # What an interrupted round kept: it comes again, and is no duplicate then.
        self._again = {pair.input for pair in file.pairs[file.state.lines :]}
        self._done = PairsReport(teacher.name, num_pairs, found=len(file.pairs))
        self._dropped = Counter[str]()  # in this round
        self._questions = 0

    def run(self, deadline_s: float) -> PairsReport:
        """Ask, round by round, until there are enough."""
        idle = 0
        while len(self._file.pairs) < self._num_pairs and not self._done.stopped:
            before = len(self._file.pairs) - len(self._again)
            self._round(self._file.state)
            self._close_round()
            idle = 0 if len(self._file.pairs) > before else idle + 1
            if len(self._file.pairs) >= self._num_pairs:
                break
            if idle == IDLE_ROUNDS:
                self._done.stopped = f"{IDLE_ROUNDS} rounds of questions gave nothing new"
            elif time.perf_counter() - self._start > deadline_s:
                self._done.stopped = f"{deadline_s:.0f} s were over"
        return self._tell()

    def _round(self, state: State) -> None:
        if state.topics is None:
            state.topics = self._ask_topics()
            self._file.save()
        wanted = self._num_pairs - state.lines
        size = min(PAIRS_A_QUESTION, max(2, math.ceil(wanted / QUESTIONS_A_ROUND) + 1))
        first = state.rounds * QUESTIONS_A_ROUND
        questions = [
            self._questioner.pairs(first + i, state.topics, label, size)
            for i, label in enumerate(self._choose_labels(state.lines))
        ]
        new: dict[str, tuple[str, str]] = {}
        for answer in self._teacher.ask(questions):
            self._questions += 1
            self._take(answer, new)
            self._tell()
        answers = self._teacher.ask([self._questioner.output(text) for text, _ in new.values()])
        for (text, written), answer in zip(new.values(), answers, strict=False):
            self._questions += 1
            self._judge(text, written, answer)
            self._tell()
            if len(self._file.pairs) == self._num_pairs:
                break

    def _ask_topics(self) -> list[str]:
        (answer,) = self._teacher.ask([self._questioner.topics()])
        self._questions += 1
        found = [text.strip() for text in read_strings(answer or "")]
        topics = [*dict.fromkeys(text for text in found if 2 < len(text) <= _TOPIC_CHARS)]
        return topics[:MAX_TOPICS] if len(topics) >= _MIN_TOPICS else []

    def _choose_labels(self, num_lines: int) -> list[str | None]:
        """Choose the labels to ask for: the scarcest in the finished rounds first."""
        output = self._function.output
        if not isinstance(output, Labels):
            return [None] * QUESTIONS_A_ROUND
        counts = Counter(pair.output for pair in self._file.pairs[:num_lines])
        chosen: list[str | None] = []
        for _ in range(QUESTIONS_A_ROUND):
            label = min(output.labels, key=lambda each: counts[each])
            counts[label] += PAIRS_A_QUESTION
            chosen.append(label)
        return chosen

    def _take(self, answer: str | None, new: dict[str, tuple[str, str]]) -> None:
        """Take the pairs of an answer whose inputs are worth a question of their own."""
        pairs, malformed = read_pairs(answer or "")
        self._dropped[why.NO_ANSWER] += not (pairs or malformed)
        self._dropped[why.MALFORMED] += malformed
        for text, written in pairs:
            if text in self._again:
                continue
            output, reason = self._sieve.judge(text, written)
            plain = normalize(text)
            if reason or plain in new:
                self._dropped[reason or why.DUPLICATE] += 1
            else:
                new[plain] = text, output

    def _judge(self, text: str, written: str, answer: str | None) -> None:
        """Keep a pair if the second answer bears it out, and it is still new."""
        if answer is None:
            output, reason = "", why.NO_ANSWER
        else:
            output, reason = self._sieve.judge(text, read_output(answer))
        if not reason and not self._sieve.agree(written, output):
            reason = why.DISAGREEMENT
        if reason:
            self._dropped[reason] += 1
        else:
            self._file.add(text, output)
            self._sieve.add(text, output)

    def _close_round(self) -> None:
        state = self._file.state
        state.rounds, state.lines = state.rounds + 1, len(self._file.pairs)
        state.questions += self._questions
        state.dropped += self._dropped
        self._again, self._questions, self._dropped = set(), 0, Counter()
        self._file.save()
        self._tell()

    def _tell(self) -> PairsReport:
        state, done = self._file.state, self._done
        done.kept = len(self._file.pairs)
        done.questions = state.questions + self._questions
        done.dropped = +(state.dropped + self._dropped)
        if isinstance(self._function.output, Labels):
            labels = self._function.output.labels
            done.by_label = {label: self._sieve.by_output[label] for label in labels}
        done.seconds = time.perf_counter() - self._start
        self._report(done)
        return done
