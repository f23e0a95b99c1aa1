"""Read the word lists, frames and phrasings under data/."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random
from string import Template

DATA = Path(__file__).parent / "data"


@cache
def sections(name: str) -> dict[str, list[str]]:
    """Read data/<name>.txt: its lines, by the [section] that they stand in."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]"):
            current = found.setdefault(line[1:-1], [])
        elif line.strip():
            current.append(line.replace("\\n", "\n"))
    return found


def lines(name: str, section: str) -> list[str]:
    """Return the lines of one section."""
    return sections(name)[section]


@cache
def words(section: str) -> list[str]:
    """Return a word list of data/words.txt."""
    return [word for line in lines("words", section) for word in line.split(", ")]


def fill(template: str, /, **slots: str) -> str:
    """Put the slots into a template's $names."""
    return Template(template).safe_substitute(slots)


def word(rng: Random, section: str) -> str:
    """Draw one word of a list."""
    return rng.choice(words(section))


def line(rng: Random, name: str, section: str, /, **slots: str) -> str:
    """Draw one line of a section and fill it."""
    return fill(rng.choice(lines(name, section)), **slots)


def phrases(name: str, section: str, /, **slots: str) -> list[str]:
    """Return every phrasing of a section, filled."""
    return [fill(text, **slots) for text in lines(name, section)]
