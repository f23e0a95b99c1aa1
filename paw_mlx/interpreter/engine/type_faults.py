"""Types of outputs that would end the process, or take minutes and gigabytes to compile.

They are told by how they are written, before llguidance reads them. It intersects an output's
regex with that of a stripped text, and to see whether something can still match it looks through
states without a bound. Two things make them many:

- a part that can only end in a blank, as that of `a|(\\w|\\w\\w){1,60} `: it matches nothing, for
  outputs are stripped, and to know that takes all of its states. It is a mistake in any case;
- repeats that count groups, which multiply: `(\\w{1,60}){1,60}é`.

Of a schema it reads numbers as floats: it takes some for others, and never returns from -2**63.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_MAX_SIZE = 60_000  # of a group with its repeats written out: 3 s and 400 MB at the worst
_LETTERS = 40  # what a class such as \w or \p{L} counts: Unicode has it in hundreds of pieces
_MAX_DEPTH = 200  # of groups; the regex crate's own is 250
_MAX_NUMBER = 1 << 53  # beyond which a float is no longer every integer
_ENDS = "a part of it can only end in a blank"
_TOKEN = re.compile(
    r"""\\[pP](?:\{[^}]*\}|.)
    |   \\[xuU]\{[^}]*\}|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\.
    |   \(\?(?:P?<[^>]*>|[a-zA-Z-]*:|[a-zA-Z-]*(?=\)))|\(
    |   \{[0-9]+(?:,[0-9]*)?\}\??|[*+?]\??
    |   .""",
    re.VERBOSE | re.DOTALL,
)
_CLASS = re.compile(r"\[\^?-*\]?")  # how a class begins: a bracket right there is one of it


def schema_fault(schema: object) -> str | None:
    """Return why llguidance takes a schema for another, in words; None for nothing."""
    left = [schema]
    while left:
        value = left.pop()
        if isinstance(value, dict | list):
            left += value.values() if isinstance(value, dict) else value
        elif isinstance(value, int | float) and not abs(value) <= _MAX_NUMBER:
            return f"its numbers are {_MAX_NUMBER:,} at most, and it has a larger"
    return None


@dataclass
class _Part:
    """A part of a regex: whether it may match nothing, and has to end in a blank otherwise.

    `long`: it is more than blanks. `faulty`: at its end something else has to end in one. `size`
    is that of its repeats written out.
    """

    nullable: bool = False
    blank: bool = False
    long: bool = True
    faulty: bool = False
    size: int = 1
    is_group: bool = False


@dataclass
class _Group:
    """A group that is being read: its branches that ended, and the parts of the last one."""

    branches: list[_Part] = field(default_factory=list)
    parts: list[_Part] = field(default_factory=list)

    def end_branch(self) -> None:
        """Make one part of the last branch."""
        blank, faulty = bool(self.parts), False
        for part in reversed(self.parts):
            faulty |= part.faulty or (part.nullable and part.blank and part.long)
            blank &= part.blank
            if not (part.blank and part.nullable):
                break
        nullable = all(part.nullable for part in self.parts)
        long = any(part.long for part in self.parts)
        size = sum(part.size for part in self.parts)
        self.branches.append(_Part(nullable, blank, long, faulty, size))
        self.parts = []

    def close(self) -> _Part:
        """Make one part of all branches; one that has to end in a blank, beside others, is lost."""
        self.end_branch()
        free = any(not branch.blank for branch in self.branches)
        return _Part(
            nullable=any(branch.nullable for branch in self.branches),
            blank=not free,
            long=any(branch.long for branch in self.branches),
            faulty=any(b.faulty or (free and b.blank and b.long) for b in self.branches),
            size=max(1, sum(branch.size for branch in self.branches)),
            is_group=True,
        )


def regex_fault(pattern: str, is_blank: Callable[[str], bool]) -> str | None:
    """Return why a regex could take for ever to compile, in words; None for nothing.

    `is_blank` says whether a pattern of one character (`[ \\t]`, `\\x20`) matches but blanks.
    """
    groups, largest = [_Group()], 0
    for token in _tokens(pattern):
        parts = groups[-1].parts
        if token[0] == "(":
            if len(groups) > _MAX_DEPTH:
                return f"its groups are nested deeper than {_MAX_DEPTH}"
            if re.match(r"\(\?[a-wyzA-Z]*x", token):
                return "(?x), in which blanks mean nothing, is not supported"
            groups.append(_Group())
        elif token == "|":
            groups[-1].end_branch()
        elif token == ")" and len(groups) > 1:
            part = groups.pop().close()
            groups[-1].parts.append(part)
        elif token[0] in "*+?" or (token[0] == "{" and len(token) > 1):
            if parts:
                _repeat(parts[-1], token)
                largest = max(largest, parts[-1].size if parts[-1].is_group else 0)
        else:
            blank = is_blank(token)
            parts.append(_Part(blank=blank, long=not blank, size=_weigh(token)))
    if largest > _MAX_SIZE:
        return f"a group with its repeats comes to {largest:,} steps (limit {_MAX_SIZE:,})"
    while len(groups) > 1:  # it is malformed, which others will say
        part = groups.pop().close()
        groups[-1].parts.append(part)
    return _ENDS if groups[0].close().faulty else None


def _repeat(part: _Part, token: str) -> None:
    """Note that a part is repeated."""
    least, _, most = token.strip("{}?").partition(",") if token[0] == "{" else ("", "", "")
    part.nullable |= token[0] in "*?" or (token[0] == "{" and not int(least[:9]))
    part.size = min(part.size * max(1, int((most or least or "1")[:9])), 1 << 60)


def _weigh(token: str) -> int:
    """Return what one character's pattern counts."""
    if token[0] == "[":
        odd = sum(not c.isascii() for c in token)
        return _LETTERS if re.search(r"\\[wWDpP]", token) else 1 + odd
    return _LETTERS if token[:2] in ("\\w", "\\W", "\\D", "\\p", "\\P") else 1


def _tokens(pattern: str) -> Iterator[str]:
    """Yield characters, escapes, classes, repeats, and where groups begin, as they are written."""
    at = 0
    while at < len(pattern):
        if pattern[at] == "[":
            token = _read_class(pattern, at)
        else:
            found = _TOKEN.match(pattern, at)
            assert found
            token = found[0]
        yield token
        at += len(token)


def _read_class(pattern: str, start: int) -> str:
    """Return the class that begins at a place, with those in it; the rest if it has no end."""
    depth, at = 0, start
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            found = _CLASS.match(pattern, at)
            assert found
            depth, at = depth + 1, found.end() - 1
        elif pattern[at] == "]":
            depth -= 1
            if not depth:
                return pattern[start : at + 1]
        at += 1
    return pattern[start:]
