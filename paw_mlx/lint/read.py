"""A spec as its checks read it: the task, the examples after it, and the labels it speaks of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from ..spec_output import labels_in_spec

_FIELD = re.compile(r"^[ \t]*(?:(?P<input>(?:example )?input)|outputs?)[ \t]*:", re.I | re.M)

# Where a label is named. One in small letters is told from prose by its place alone.
_OPEN, _SHUT = "\"'`“‘", "\"'`”’"
_WORD = r"[\w#][\w+#/-]*"
_NAME = (
    rf"(?:[{_OPEN}](?P<quoted>[^{_OPEN}{_SHUT}\n]{{1,30}})[{_SHUT}]|(?P<plain>{_WORD})(?![\w(]))"
)
_CAPS = (
    rf"(?:[{_OPEN}](?P<quoted>[^{_OPEN}{_SHUT}\n]{{1,30}})[{_SHUT}]|(?P<plain>[A-Z0-9][A-Z0-9_-]*))"
)
_BEGIN = r"(?:^|[.;:,?!(\n]|->|\bor\b|\band\b)[ \t]*(?:[-*•][ \t]*)?"
_END = r"(?=[ \t]*(?:[;,)\n]|\.(?!\d)|$))"
_PLACES = (
    rf"{_BEGIN}{_NAME}[ \t]+=[ \t]+(?=\S)",  # ALERT = somebody must act
    rf"[^\s.:;,][ \t]+\S+[ \t]*(?:->|→|=>|⇒)[ \t]*{_NAME}{_END}",  # somebody must act -> ALERT
    rf"{_BEGIN}{_NAME}[ \t]+means[ \t]",
    rf"^[ \t]*[-*•][ \t]*{_NAME}(?::|[ \t][-–—])[ \t]",  # - ALERT: somebody must act
    # ALERT if somebody must act
    rf"{_BEGIN}{_CAPS}[ \t]+(?:if|when|where|for|unless|otherwise|else)\b",
    rf"\b(?i:return|answer|reply|respond|output|print|say|write|put|use|choose|as|with)"
    rf"(?i:[ \t]+(?:with|by|the|digit|letter|word|code))*[:]?[ \t]+{_CAPS}"
    rf"(?=[ \t]*(?:[;,)\n(]|\.(?!\d)|$|(?:if|when|where|for|unless|else|otherwise)\b))",
    rf"\b(?i:else|otherwise|in every other case|anything else|the rest)[:,]?"
    rf"(?i:[ \t]+(?:it[ \t]is|is|it's|say|return|answer|reply|put|with))*[ \t]+{_CAPS}{_END}",
)
_NAMED = [re.compile(place, re.MULTILINE) for place in _PLACES]
_NO_LABELS = re.compile(
    r"(?i)it|that|this|them|one|the|an|and|or|not|only|just|input|output|text|json|"
    r"csv|xml|yaml|html|url|iso|utc|eur|usd|id|pdf|sql|api|yyyy\S*|hh\S*"
)
# Who says these lists what may be said, and nobody reads them yet.
_LIST = re.compile(
    r"\b(?:(?:possible|allowed|valid)[ \t]+(?:outputs?|answers?|labels?|values?|options?)"
    r"(?:[ \t]+are)?|"
    r"answers?[ \t]+must[ \t]+be|one[ \t]+of|"
    r"(?:classify|label|tag|categori[sz]e|sort)\b[^.;:\n]*?[ \t](?:as|into)(?:[ \t]+either)?|"
    r"(?:labels?|classes|categories)(?:[ \t]+are)?|word[ \t]+back):?"
    r"[ \t]+(?P<list>[^\n]+?)(?=[.;?!](?:\s|$)|[ \t]+(?:and|with)[ \t]+\w+[ \t]+\w+|\n|$)",
    re.IGNORECASE,
)
_SERIES = re.compile(rf"(?:{_WORD},[ \t]+){{1,40}}{_WORD},?[ \t]+or[ \t]+{_WORD}")  # A, B or C
_CHANGES = re.compile(
    r"(?i)\b(?:replac|substitut|expand|convert|normali[sz]|shorten|rewrit|translat|spell|swap|"
    r"abbreviat|round|every|each word|whole words)"
)
_EQUATION = re.compile(r"=[ \t]+\S")
_MEANING = re.compile(r"=[ \t]+[^\s.;,]+[ \t]+\S")  # some words, where a substitution has one
_SHAPES = (str.isupper, str.islower, str.istitle, str.isdigit)


@dataclass(frozen=True)
class Spec:
    """A spec's text, and what is read in it."""

    text: str

    @cached_property
    def task(self) -> str:
        """The text without the `Input:` and `Output:` lines at its end."""
        start = self._examples[0][0] if self._examples else None
        return self.text[:start].strip()

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The examples: each input with its output, stripped. The last has the text after it."""
        return [(given, said) for _, given, said in self._examples]

    @cached_property
    def _examples(self) -> list[tuple[int, str, str]]:
        """Where each pair of an `Input:` and the `Output:` after it begins, and what they hold."""
        found = [*_FIELD.finditer(self.text)]
        starts = [*(match.start() for match in found), len(self.text)]
        fields = [
            (match, self.text[match.end() : end].strip())
            for match, end in zip(found, starts[1:], strict=True)
        ]
        return [
            (match.start(), given, said)
            for (match, given), (after, said) in pairwise(fields)
            if match["input"] and not after["input"]
        ]

    @cached_property
    def first_lines(self) -> list[str]:
        """The first line of each example's output: what may be a label. Prose may follow it."""
        return [output.partition("\n")[0].strip() for _, output in self.pairs]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels to which the task binds its outputs; () if it binds them to none."""
        found = labels_in_spec(self.task)
        return found.labels if found else ()

    @cached_property
    def named(self) -> tuple[str, ...]:
        """Words that the task gives as outputs, without binding outputs to them; () unless sure.

        There are two at least, each at a place where labels stand, all in letters of one shape;
        and what examples say is among them.
        """
        if self.labels or _CHANGES.search(self.task):
            return ()
        if _EQUATION.search(self.task) and not _MEANING.search(self.task):
            return ()
        lists = [
            labels_in_spec(f"Return ONLY one of: {m['list']}") for m in _LIST.finditer(self.task)
        ]
        if listed := [found.labels for found in lists if found]:
            return listed[0]
        names: list[str] = []
        found = [match for place in _NAMED for match in place.finditer(self.task)]
        for match in sorted(found, key=lambda match: match.start()):
            name = (match["quoted"] or match["plain"]).strip()
            if name and not _NO_LABELS.fullmatch(name) and name not in names:
                names.append(name)
        bare = re.sub(r"[ \t]*\([^()]*\)|[\"'`]", "", self.task)
        for series in _SERIES.finditer(bare):
            words = re.split(r",?[ \t]+or[ \t]+|,[ \t]+", series[0])
            if names and {*names} <= {*words}:
                return tuple(words)
        alike = any(all(map(shape, names)) for shape in _SHAPES)
        enough = len([name for name in names if name.lower() not in ("none", "null")]) > 1
        return tuple(names) if enough and alike and {*self.first_lines} <= {*names} else ()
