"""Prompt lookup: fewer steps where outputs copy, and next to no waste where they do not.

Greedy decoding is played from the outputs: a draft is right as far as it agrees with them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest
import tiny

from paw_mlx import Template, formats
from paw_mlx.interpreter.base.tokenizer import Tokenizer
from paw_mlx.interpreter.engine.draft import MAX_DRAFT, Habit, Lookup, read_examples
from paw_mlx.prompts import pseudo_program, template

EXAMPLES = Path(__file__).parents[2] / "examples"
LOGS = [
    "Jul  3 09:05:11 web-1 sshd[812]: Accepted publickey for anna from 10.0.4.17 port 52144",
    "Jul 13 23:59:02 db-2 kernel: usb 1-4: new high-speed device number 7 using xhci_hcd",
    "Jul 30 04:00:00 mail-4 cron[77]: (root) CMD (run-parts --report /etc/cron.daily)",
    "Jul  8 17:21:45 edge-5 nginx: 192.168.7.2 GET /orders/4471 502 upstream timed out after 60s",
    "Jul 22 12:10:09 auth-6 login: pam_unix(login:session): session opened for user bob by tom",
    "Jul 17 08:44:31 jobs-7 worker[5]: job 99120 finished in 1834 ms, 3 retries, queue empty",
    "Jul 25 19:02:57 cache-3 redis: Background saving terminated with success, 41 MB written",
    "Jul  1 00:13:26 proxy-8 haproxy[21]: Server api/two is DOWN, reason: Layer4 timeout, check",
]
HOST = re.compile(r"(?<=:\d\d )\S+")


class Words(dict[str, int]):
    """A tokenizer of words, blanks and single signs."""

    def __missing__(self, word: str) -> int:
        self[word] = len(self) + 1
        return self[word]

    def encode(self, text: str) -> list[int]:
        return [self[word] for word in re.findall(r" ?\w+|\s|[^\w\s]", text)]


END = 0
Pairs = list[tuple[str, str]]


class Played(NamedTuple):
    num_steps: int
    num_tokens: int
    num_drafted: int
    num_right: int

    @property
    def rate(self) -> float:
        return self.num_steps / self.num_tokens

    @property
    def wasted(self) -> int:
        return self.num_drafted - self.num_right


def play(lookup: Lookup, output: Sequence[int], limit: int = MAX_DRAFT) -> Played:
    """Decode `output` greedily, with drafts."""
    done = num_steps = num_drafted = num_right = 0
    while done < len(output):
        draft = lookup.propose(limit)
        assert len(draft) <= limit
        right = 0
        while right < min(len(draft), len(output) - done - 1):
            if draft[right] != output[done + right]:
                break
            right += 1
        lookup.push(output[done : done + right + 1])
        done, num_steps = done + right + 1, num_steps + 1
        num_drafted, num_right = num_drafted + len(draft), num_right + right
    return Played(num_steps, len(output), num_drafted, num_right)


def played(pairs: Pairs, shown: Pairs, *, shared: bool) -> Played:
    """All rows of a program, whose template shows some pairs, together."""
    words, total = Words(), Played(0, 0, 0, 0)
    habits = []
    for _ in pairs[:1] if shared else pairs:
        habits.append(Habit([END]))
        for text, output in shown:
            habits[-1].learn(words.encode(text), [*words.encode(output), END])
    for i, (text, output) in enumerate(pairs):
        lookup = Lookup(words.encode(text), habits[0 if shared else i])
        one = play(lookup, [*words.encode(output), END])
        total = Played(*(a + b for a, b in zip(total, one, strict=True)))
    return total


def rows(name: str) -> tuple[Pairs, Pairs]:
    """The test rows of an example, and the pairs that its program shows."""
    lines = (EXAMPLES / name / "test.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [(row["input"], row["output"]) for row in map(json.loads, lines)]
    program = formats.load(EXAMPLES / name / "program.paw")
    return pairs, read_examples(program.template.prefix)


def copies() -> dict[str, tuple[Pairs, Pairs]]:
    """Programs whose outputs are their inputs with small changes."""
    redacted = [(line, HOST.sub("[REDACTED]", line)) for line in LOGS]
    dates = [(line, re.sub(r"^Jul +(\d+)", r"2017-07-\1", line)) for line in LOGS]
    commas = []
    for i, line in enumerate(LOGS):
        good = json.dumps({"id": i, "words": line.split()[:6], "last": {"is": None}}, indent=1)
        commas.append((re.sub(r"\n( *)([\]}])", r",\n\1\2", good), good))
    made = {"redaction": redacted, "dates": dates, "commas": commas}
    split = {name: (pairs[2:], pairs[:2]) for name, pairs in made.items()}
    return {"json-repair": rows("json-repair"), **split}


RATES = {"json-repair": 0.27, "redaction": 0.19, "dates": 0.19, "commas": 0.14}


@pytest.mark.parametrize("name", sorted(RATES))
def test_copies_with_small_changes_take_few_steps(name):
    """Steps per token, as measured and a little more; the goal is 0.4."""
    pairs, shown = copies()[name]
    alone, together = (played(pairs, shown, shared=shared) for shared in (False, True))
    bare = played(pairs, [], shared=False)
    assert max(alone.rate, together.rate) < RATES[name] < bare.rate


@pytest.mark.parametrize("name", ["email-triage", "log-triage"])
def test_labels_waste_next_to_nothing(name):
    pairs, shown = rows(name)
    for given in (shown, []):
        total = played(pairs, given, shared=True)
        assert total.wasted <= 0.7 * len(pairs)


def test_a_label_of_several_tokens_is_foreseen_from_its_first():
    pairs, _ = rows("email-triage")
    long = {"immediate": "answer at once, today", "wait": "can wait for a week or more"}
    total = played([(text, long[label]) for text, label in pairs], [], shared=True)
    assert total.num_steps < 2.5 * len(pairs)
    assert total.wasted < 3 * len(pairs)


def test_what_copies_nothing_soon_gets_no_drafts_and_is_tried_again_rarely():
    """Random words, some frequent, as in two texts about other things."""
    chance, words = random.Random(0), range(1, 300)
    weights = [1 / word for word in words]
    tokens = chance.choices(words, weights, k=300)
    output = chance.choices(words, weights, k=600)
    lookup = Lookup(tokens)
    play(lookup, output[:100])
    assert 0 < play(lookup, output[100:]).num_drafted < 30
    assert play(lookup, tokens[50:250]).rate < 0.3  # it starts to copy after all


def test_a_program_that_changes_its_habits_is_followed():
    habit, chance = Habit([END]), random.Random(2)

    def row(*output: int) -> Played:
        return play(Lookup([1, 2, 3, 4, 5, 6], habit), [*output, END])

    for _ in range(300):
        row(*(chance.randrange(10, 1000) for _ in range(6)))
    assert [row(1, 2, 3, 4, 5, 6).num_steps for _ in range(40)][-1] == 1
    for _ in range(300):
        row(1, 2, 30, 4, 5, 6)
    assert [row(1, 2, 40, 4, 5, 6).num_steps for _ in range(20)][-1] == 1


def test_a_plain_copy_takes_an_eighth_of_the_steps():
    tokens = list(range(1, 1001))
    total = play(Lookup(tokens), tokens)
    assert total.num_steps <= 1000 / 8 + 4
    assert total.wasted <= MAX_DRAFT


def test_before_any_output_the_draft_is_the_inputs_beginning():
    tokens = [7, 3, 9, 4, 1, 8, 2, 6, 5]
    draft = Lookup(tokens).propose()
    assert draft
    assert draft == tokens[: len(draft)]


def test_a_copy_that_begins_anywhere_in_the_input_is_found():
    tokens = list(range(1, 401))
    assert play(Lookup(tokens), [900, 901, *tokens[200:300], 902, *tokens[40:90]]).rate < 0.25


def test_a_draft_keeps_to_its_limit_and_stops_before_the_end():
    habit = Habit([END])
    for _ in range(3):
        habit.learn([1, 2, 3], [1, 2, 3, END])
    lookup = Lookup([1, 2, 3], habit)
    assert [lookup.propose(limit) for limit in (0, 1, 2, 7)] == [[], [1], [1, 2], [1, 2, 3]]


def test_the_same_row_gets_the_same_drafts():
    pairs, shown = rows("json-repair")
    assert played(pairs, shown, shared=False) == played(pairs, shown, shared=False)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_the_shortest_inputs_are_fine(length):
    assert play(Lookup([5, 6][:length]), [5, 5, 5, 6, 6, END]).num_tokens == 6


def test_a_step_costs_the_same_however_long_the_input_is():
    class Counted(list[int]):
        num_read = 0

        def __getitem__(self, index):
            Counted.num_read += 1
            return super().__getitem__(index)

    reads = []
    for length in (100, 100_000):
        chance = random.Random(length)
        tokens = Counted(chance.randrange(50) for _ in range(length))
        lookup = Lookup(tokens)
        Counted.num_read = 0
        play(lookup, [chance.randrange(50) for _ in range(200)])
        reads.append(Counted.num_read)
    assert reads[1] < 2 * reads[0] < 20_000


def test_what_was_wrong_very_often_gets_another_try():
    habit = Habit([END])
    for _ in range(3):
        habit.learn([1, 2, 3], [1, 2, 3, END])
    lookup = Lookup([1, 2, 3], habit)
    assert lookup.propose() == [1, 2, 3]
    for rate in habit._rates.values():
        for _ in range(10_000):
            rate.learn(False)
    drafts = [lookup.propose() for _ in range(300)]
    assert not drafts[0]
    assert drafts[-1]


def test_wrong_drafts_pause_for_longer_and_longer_but_never_for_long():
    class Sure(Habit):
        def guess(self, contexts):
            return super().guess(contexts)._replace(chance=1.0)

    lookup, drafted = Lookup(range(1, 1001), Sure([END])), []
    for foreign in range(2000, 2400):
        drafted.append(bool(lookup.propose()))
        lookup.push([foreign])
    pauses = [len(list(steps)) for asked, steps in groupby(drafted) if not asked]
    assert drafted[:6] == [True] * 6
    assert pauses[:3] == [1, 3, 7]
    assert max(pauses) == 31


def test_a_habit_forgets_what_it_saw_once_and_keeps_the_rest():
    habit, chance = Habit([END]), random.Random(3)
    for _ in range(5):
        habit.learn([1, 2, 3], [1, 22, 3, END])
    for _ in range(400):
        noise = [chance.randrange(100, 1 << 20) for _ in range(60)]
        habit.learn(noise, noise[::-1])
        assert len(habit._counts) <= 8192
    assert play(Lookup([1, 2, 3], habit), [1, 22, 3, END]).num_steps <= 2


def test_a_habit_learns_from_the_examples_in_a_template():
    shown = [("server down", "SERVER DOWN!"), ("two\nlines", "two,\nlines"), ("", "")]
    made = template(pseudo_program("Say it.", shown), ("<|im_start|>", "<|im_end|>\n"))
    assert read_examples(made.prefix) == shown
    assert read_examples("Task: Say it.\nInput: x") == read_examples("") == []
    tokenizer = Tokenizer(tiny.tokenizer())
    end = tokenizer.ids(["<|im_end|>"])
    habit = Habit.of(made, tokenizer, end)
    tokens = tokenizer.encode_input("two\nlines", made.suffix)
    output = [*tokenizer.encode("two,\nlines"), *end]
    total = play(Lookup(tokens, habit), output)
    assert total.rate < 0.2
    assert total.wasted == 0  # it knows what stands where the input ends
    bare = Habit.of(Template("Say it.\n", "\n"), tokenizer, end)
    assert play(Lookup(tokens, bare), output).rate > 0.2
