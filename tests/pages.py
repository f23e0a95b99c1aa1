"""Pages of Markdown as data: fenced blocks, spans of code, headings, links, shell commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_HEADING = re.compile(r"^#+ +(.+?)(?: +\{ *#([\w-]+) *\})?$", re.MULTILINE)
_LINK = re.compile(r"\]\(<?([^)\s>]+)")
_OPERATORS = set("|&;<>()")


class Block(NamedTuple):
    """A fenced block."""

    language: str
    line: int  # of its first line, from 1
    text: str


class Shown(NamedTuple):
    """A command of the shell, and what a page says that it prints: nothing, or its lines."""

    line: int
    command: str
    output: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start(3)) + 1
        body = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
        yield Block(match[2], line, body)


def prose(page: Path) -> str:
    """Return what stands outside the fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """Return what is marked as code in the prose; in tables `\\|` is a bar."""
    return [span.replace("\\|", "|") for span in _SPAN.findall(prose(page))]


def anchors(page: Path) -> set[str]:
    """Return what a link to a heading of the page may end in."""
    return {own or _slug(title) for title, own in _HEADING.findall(prose(page))}


def links(page: Path) -> Iterator[str]:
    """Yield the links and images of the prose that lead to files of ours."""
    for target in _LINK.findall(_SPAN.sub("", prose(page))):
        if not re.match(r"[a-z]+:", target):
            yield target


def shown(page: Path) -> Iterator[Shown]:
    """Yield the commands of the console blocks: lines behind `$ `, those a `\\` continues too."""
    for block in blocks(page):
        if block.language != "console":
            continue
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            match = re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL)
            assert match
            before = block.text.index(part)
            yield Shown(block.line + block.text.count("\n", 0, before), match[1], match[2])


def simple_commands(command: str) -> list[list[str]]:
    """Split a line of the shell at its pipes and the like, each part into words."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= _OPERATORS:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _slug(title: str) -> str:
    """Return the anchor that GitHub and MkDocs make of a heading."""
    plain = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", title).lower()
    return re.sub(r"[^\w\s-]", "", plain).strip().replace(" ", "-")
