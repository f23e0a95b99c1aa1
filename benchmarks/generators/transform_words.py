"""Draw transforms of letters, words and names."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from paw_mlx.benchmarks.generators import values
from paw_mlx.benchmarks.generators.bank import lines, phrases, word
from paw_mlx.benchmarks.generators.core import Draft, family

Change = Callable[[str], str]
QUOTING = {"expand", "table", "stop-words", "wrap", "redact-name"}


def changing(
    rng: Random, section: str, draw: Callable[[Random], str], change: Change, **slots: str
) -> Draft:
    """Draw a function that turns drawn texts into changed ones."""

    def case() -> tuple[str, str]:
        text = draw(rng)
        return text, change(text)

    return Draft(phrases("transform", section, **slots), case, exact=section in QUOTING)


def mixed(rng: Random) -> str:
    """Draw a text in some case: filler, a sentence or a headline."""
    text = rng.choice(
        [
            rng.choice(lines("messages", "filler")),
            values.sentence(rng) + rng.choice(".!?"),
            values.headline(rng),
            f"{values.headline(rng, 1, 3)} {values.digits(rng, 2)}",
        ]
    )
    return rng.choice([text, text.upper(), text.lower(), text.title(), text.swapcase()])


def plain(rng: Random) -> str:
    """Draw a text of nothing but words: no digits, apostrophes, hyphens or lone signs."""
    while re.search(r"[\d'-]|(?<!\w)[^\w\s]", text := mixed(rng)):
        pass
    return text


def title(text: str) -> str:
    """Capitalise each word and make the rest of it small."""
    return " ".join(part.capitalize() for part in text.split(" "))


def camel(text: str) -> str:
    """Join the words in camel case."""
    first, *rest = text.split()
    return first.lower() + "".join(part.capitalize() for part in rest)


def slug(text: str) -> str:
    """Drop the signs and join the small words by hyphens."""
    return "-".join(re.sub(r"[^a-z0-9 ]", "", text.lower()).split())


def bare(text: str) -> list[str]:
    """Return the words without punctuation."""
    return re.sub(r"[^\w\s'-]", "", text).split()


def phrase(rng: Random) -> str:
    """Draw a phrase of two to four words, in some case."""
    text = values.headline(rng, 2, 4)
    return rng.choice([text, text, text.title(), text.upper(), text.capitalize()])


def identifier(rng: Random) -> str:
    """Draw a name as code has it."""
    parts = values.headline(rng, 2, 4).split()
    return rng.choice(["_".join(parts), "-".join(parts), camel(" ".join(parts))])


def headline_with_signs(rng: Random) -> str:
    """Draw a title with punctuation."""
    head, tail = values.headline(rng, 2, 4).title(), values.headline(rng, 1, 3)
    number = values.digits(rng, rng.choice([1, 2, 4]))
    return rng.choice(
        [f"{head}: {tail}!", f"{head}, {tail}", f"{number} {head} ({tail})", f"Why {head}?", head]
    )


def words_of(text: str) -> str:
    """Split an identifier into small words."""
    return re.sub(r"[_-]|(?<=[a-z])(?=[A-Z])", " ", text).lower()


def surname_first(text: str) -> str:
    """Turn First Last into Last, First."""
    first, last = text.split(" ", 1)
    return f"{last}, {first}"


PLAIN: dict[str, tuple[Callable[[Random], str], Change]] = {
    "upper": (mixed, str.upper),
    "lower": (mixed, str.lower),
    "title": (mixed, title),
    "sentence": (mixed, str.capitalize),
    "swap": (mixed, str.swapcase),
    "snake": (phrase, lambda text: "_".join(text.lower().split())),
    "kebab": (phrase, lambda text: "-".join(text.lower().split())),
    "camel": (phrase, camel),
    "pascal": (phrase, lambda text: title(text).replace(" ", "")),
    "constant": (phrase, lambda text: "_".join(text.upper().split())),
    "dot": (phrase, lambda text: ".".join(text.lower().split())),
    "words-of": (identifier, words_of),
    "slug": (headline_with_signs, slug),
    "last-first": (values.person, surname_first),
    "first-last": (
        lambda rng: surname_first(values.person(rng)),
        lambda text: " ".join(reversed(text.split(", "))),
    ),
    "first-initial": (values.person, lambda text: f"{text[0]}. {text.split()[1]}"),
    "reverse-words": (
        lambda rng: rng.choice([values.headline(rng, 2, 6), values.sentence(rng)]),
        lambda text: " ".join(reversed(text.split())),
    ),
    "reverse-letters": (lambda rng: word(rng, rng.choice(["noun", "thing"])), lambda t: t[::-1]),
    "count-words": (plain, lambda text: str(len(text.split()))),
    "first-word": (plain, lambda text: bare(text)[0]),
    "last-word": (plain, lambda text: bare(text)[-1]),
}


def _register(kind: str, draw: Callable[[Random], str], change: Change) -> None:
    """Register the family of one plain change."""
    family("transform", kind)(lambda rng: changing(rng, kind, draw, change))


for _kind, (_draw, _change) in PLAIN.items():
    _register(_kind, _draw, _change)


@family("transform", "nth-word")
def nth_word(rng: Random) -> Draft:
    """Draw a function that picks the second, third or fourth word."""
    nth = rng.choice([1, 2, 3])
    slot = ["second", "third", "fourth"][nth - 1]

    def draw(rng: Random) -> str:
        return values.sentence(rng) + rng.choice([".", "", "!"])

    return changing(rng, "nth-word", draw, lambda text: bare(text)[nth], nth=slot)


@family("transform", "count-letter")
def count_letter(rng: Random) -> Draft:
    """Draw a function that counts a letter."""
    letter = rng.choice("aeiorst")

    def draw(rng: Random) -> str:
        drawn = [values.headline(rng, 1, 3), word(rng, "city"), word(rng, "thing")]
        some = [text for text in drawn if letter in text.lower()]
        return rng.choice(some or drawn)

    def change(text: str) -> str:
        return str(text.lower().count(letter))

    return changing(rng, "count-letter", draw, change, letter=letter)


@family("transform", "longest-word")
def longest_word(rng: Random) -> Draft:
    """Draw a function that finds the one longest word."""

    def draw(rng: Random) -> str:
        while True:
            parts = rng.choice([values.headline(rng, 3, 6), values.sentence(rng)]).split()
            sizes = sorted(map(len, parts))
            if sizes[-1] > sizes[-2]:
                return " ".join(parts)

    return changing(rng, "longest-word", draw, lambda text: max(text.split(), key=len))
