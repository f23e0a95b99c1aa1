"""How likely each label is, read from logits that forward passes give anyway.

A label's probability is the product of its tokens', each among all of the vocabulary, as far as
it takes to tell the label from all others (its end is a token, too). Where labels part at their
first token, the prompt's own last logits say all; else the tokens that several share are fed, the
likeliest first, until what is left to look at could not change a probability by 1e-5.

    node     some tokens that several labels begin with, and the tokens that may come next
    place    what a row's slot holds: the prompt, and a path, over which the next one is written
    logits   (B, T, V) of a step; M nodes are heard in it, with K next tokens in all
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby, pairwise
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ...errors import InputTooLong, OptionError
from ...output import Decision, Labels
from ...runner import Options
from ..models.load import Base

_NEGLIGIBLE = math.log(1e-5)  # of all labels' weight, below which no path is looked at any more
_Tokens = tuple[int, ...]


class Trie:
    """Labels in a base's tokens, its end's included, sorted; its nodes are made as they are met.

    OptionError for two labels that have the same tokens, InputTooLong for one that takes more
    than the window to tell from the others.
    """

    def __init__(self, output: Labels, base: Base) -> None:
        self.output = output
        texts = [(*base.tokenizer.encode(label), base.end) for label in output.labels]
        places = sorted(range(len(texts)), key=texts.__getitem__)
        self.num_tokens = [1] * len(texts)  # that decide for each label
        for a, b in pairwise(places):
            alike = _num_alike(texts[a], texts[b])
            if texts[a] == texts[b]:
                first, second = sorted((a, b))
                raise OptionError(
                    f"the labels {output.labels[first]!r} and {output.labels[second]!r} are the "
                    "same to this base's tokenizer"
                )
            for label in (a, b):
                self.num_tokens[label] = max(self.num_tokens[label], alike + 1)
        self.depth = max(self.num_tokens)
        if self.depth >= base.window:
            longest = output.labels[self.num_tokens.index(self.depth)]
            raise InputTooLong(
                f"{self.depth} tokens tell the label {longest[:40]!r}… from the others, and the "
                f"window is {base.window}",
                hint="Shorten the labels, or let them differ sooner.",
            )
        self.root = Node([texts[label] for label in places], places, 0)


class Node:
    """Tokens that several labels begin with, as many as `depth`.

    `texts` are those labels' tokens, sorted, and `labels` their places in the program's order.
    """

    def __init__(self, texts: Sequence[_Tokens], labels: Sequence[int], depth: int) -> None:
        self._texts, self.labels, self.depth = texts, labels, depth

    @property
    def path(self) -> _Tokens:
        """The tokens that lead here."""
        return self._texts[0][: self.depth]

    @cached_property
    def following(self) -> Following:
        """What may come next."""
        depth, start = self.depth, 0
        if (token := self._texts[0][depth]) == self._texts[-1][depth]:
            return Following(np.array([token]), [Node(self._texts, self.labels, depth + 1)])
        tokens: list[int] = []
        leads_to: list[Node | int] = []
        for token, group in groupby(text[depth] for text in self._texts):
            end = start + sum(1 for _ in group)
            tokens.append(token)
            if end - start == 1:
                leads_to.append(self.labels[start])
            else:
                leads_to.append(Node(self._texts[start:end], self.labels[start:end], depth + 1))
            start = end
        return Following(np.array(tokens), leads_to)

    @property
    def only_way(self) -> Node | None:
        """The node after this one, if nothing but it can follow."""
        match self.following.leads_to:
            case [Node() as node]:
                return node
        return None


class Following(NamedTuple):
    """Each of `tokens` (K) leads to the node, or decides for the label, in `leads_to`."""

    tokens: np.ndarray
    leads_to: list[Node | int]


class Search:
    """What one row knows of its labels, and where it looks next."""

    def __init__(self, trie: Trie, options: Options) -> None:
        self._trie, self._options = trie, options
        self._found: dict[int, float] = {}  # the log-probability of a label
        # By it (p / prior) ** (1 / temperature) is what a label weighs: in the decision, or a draw.
        self._temperature = trie.output.temperature * max(1.0, options.temperature)
        self._priors = trie.output.priors or [0.0] * len(trie.output.labels)
        self._known = -math.inf  # the logarithm of what all that are found weigh
        self._open = {trie.root: (math.inf, 0.0)}  # of a node not yet heard: `_most`, its own log
        self._held: _Tokens = ()  # tokens behind the prompt in the row's slot
        self._asked = [(0, trie.root)]  # nodes, and where in what was fed last
        self._heard: Heard | None = None
        self._first = 0  # of what it asked, among all that is heard

    def plan(self, limit: int) -> tuple[int, _Tokens]:
        """Return how much of the path that the slot holds stays, and what to feed after it.

        At most `limit` tokens, at least one; they lead to the likeliest node, and on from it as
        long as there is one way.
        """
        nodes = [max(self._open, key=self._open.__getitem__)]
        keep = _num_alike(self._held, nodes[0].path)  # not all: what was fed has been heard
        while nodes[-1].depth < keep + limit and (after := nodes[-1].only_way):
            nodes.append(after)
        self._held = nodes[-1].path[: keep + limit]
        fed = self._held[keep:]
        places = ((node.depth - keep - 1, node) for node in nodes)
        self._asked = [(place, node) for place, node in places if place < len(fed)]
        return keep, fed

    @property
    def asks(self) -> list[tuple[int, np.ndarray]]:
        """The positions in what was fed last whose logits it needs, and of which tokens."""
        return [(place, node.following.tokens) for place, node in self._asked]

    def listen(self, heard: Heard, first: int) -> None:
        """Take the place of what it asked for among what is heard."""
        self._heard, self._first = heard, first

    def hear(self) -> bool:
        """Take in what it asked for; return whether every label is known well enough.

        Or is not to be known, where numbers are none: `decide` says so.
        """
        for number, (_, node) in enumerate(self._asked, self._first):
            assert self._heard is not None
            after = self._open.pop(node)[1] + self._heard.log_shares(number)
            known = [self._known]
            for log_p, leads_to in zip(after.tolist(), node.following.leads_to, strict=True):
                if isinstance(leads_to, Node):
                    self._open[leads_to] = self._most(log_p, leads_to.labels), log_p
                else:
                    self._found[leads_to] = log_p
                    known.append((log_p - self._priors[leads_to]) / self._temperature)
            self._known = _add_logs(*known)
        self._heard = None
        left = _add_logs(*(most for most, _ in self._open.values()))
        return not left > self._known + _NEGLIGIBLE

    def decide(self) -> tuple[Decision, int]:
        """Return the decision, and how many tokens told its label from all others.

        What was not looked at is shared evenly by the labels there. OutputError for numbers
        that overflowed.
        """
        output, options = self._trie.output, self._options
        found = self._found.copy()
        for node, (_, node_log_p) in self._open.items():
            found |= dict.fromkeys(node.labels, node_log_p - math.log(len(node.labels)))
        log_p = [found[label] for label in range(len(output.labels))]
        choice = _draw(output.shares(log_p), options) if options.temperature else None
        decision = output.decide(
            log_p, threshold=options.threshold, otherwise=options.otherwise, choice=choice
        )
        return decision, self._trie.num_tokens[output.places[decision.label]]

    def _most(self, log_p: float, labels: Sequence[int]) -> float:
        """Return the logarithm of what these labels, together so likely, weigh at most.

        That is if they share it evenly, or below temperature 1 if one has it all (Jensen); and if
        each has the least prior of them.
        """
        beta = 1 / self._temperature
        least = min(self._priors[label] for label in labels)
        return beta * (log_p - least) + max(0.0, 1 - beta) * math.log(len(labels))


class Heard:
    """The log-probabilities that a step gave of all that was asked for, read at once."""

    def __init__(self, arrays: tuple[mx.array, mx.array], ends: Sequence[int]) -> None:
        self._arrays, self._ends = arrays, ends
        self._numbers: tuple[np.ndarray, np.ndarray] | None = None

    def log_shares(self, number: int) -> np.ndarray:
        """Return the log-probabilities (K) of the tokens that a node asked for."""
        if self._numbers is None:
            self._numbers = np.array(self._arrays[0]), np.array(self._arrays[1])
        total, logits = self._numbers
        start, end = self._ends[number], self._ends[number + 1]
        return (logits[start:end] - total[number]).astype(float)


def ask(searches: Sequence[Search | None], logits: mx.array) -> None:
    """Let rows listen to what they ask for in a step's logits, (B, T, V) or (B, V)."""
    wanted = [
        (row, position, tokens, search)
        for row, search in enumerate(searches)
        if search is not None
        for position, tokens in search.asks
    ]
    if not wanted:
        return
    logits = logits if logits.ndim == 3 else logits[:, None]
    rows, positions, asked, _ = zip(*wanted, strict=True)
    heard = logits[mx.array(rows), mx.array(positions)].astype(mx.float32)  # (M, V)
    nodes = mx.array(np.repeat(np.arange(len(asked)), [len(tokens) for tokens in asked]))
    arrays = mx.logsumexp(heard, axis=-1), heard[nodes, mx.array(np.concatenate(asked))]
    mx.async_eval(*arrays)
    told = Heard(arrays, np.cumsum([0, *(len(tokens) for tokens in asked)]).tolist())
    for number in range(len(wanted) - 1, -1, -1):  # the first of each row is the last to say
        wanted[number][3].listen(told, number)


def _num_alike(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two paths begin with alike."""
    for num, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return num
    return min(len(a), len(b))


def _add_logs(*logs: float) -> float:
    """Return the logarithm of a sum of probabilities; it may be too small for a float itself."""
    with np.errstate(invalid="ignore"):  # of numbers that overflowed there is none
        return float(np.logaddexp.reduce(logs))


def _draw(shares: Sequence[float], options: Options) -> int:
    """Draw a label by the call's temperature and seed."""
    most = max(shares)
    weights = [(share / most) ** (1 / options.temperature) for share in shares]
    return random.Random(options.seed).choices(range(len(shares)), weights)[0]
