"""Specs as people really write them: with typos, or in other words.

Both are seeded and repeat exactly. Neither touches what a program must reproduce: what stands
in quotes, backticks or braces, words with digits, underscores or capitals throughout, and the
outputs that are named in `keep`. They are simple by intent. Typos are slips of the finger in one
word of ten, uniform over words, not drawn from a corpus of real ones. A paraphrase swaps common
phrases for others of the same meaning and puts a frame around the whole; it never reorders, and
the result may sound stiff.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection

from paw_mlx.benchmarks.accuracy.tasks import own_chance

KINDS = ("typos", "paraphrase")
SHARE = 0.1  # of the words, when typos are made
_SHORTEST = 4  # letters: a slip in a shorter word may make another word of it
_PROTECTED = r"\"[^\"\n]*\"|“[^”\n]*”|(?<!\w)'[^'\n]*'(?!\w)|`[^`\n]*`|\{[^{}\n]*\}|\[[^\[\]\n]*\]"

# What is replaced, by what. Whole words, either case at the start; longer phrases come first.
PHRASES = {
    "return only one of": "answer with exactly one of",
    "return only": "answer with nothing but",
    "output only": "answer with nothing but",
    "for example": "for instance",
    "such as": "like",
    "as well as": "and also",
    "in order to": "to",
    "decide whether": "work out whether",
    "determine whether": "work out whether",
    "do not": "don't",
    "does not": "doesn't",
    "is not": "isn't",
    "are not": "aren't",
    "should be": "ought to be",
    "return": "give back",
    "extract": "pull out",
    "classify": "categorize",
    "determine": "work out",
    "identify": "find",
    "ignore": "disregard",
    "contains": "includes",
    "convert": "turn",
    "remove": "take out",
    "otherwise": "if not",
    "every": "each",
    "when": "whenever",
}
FRAMES = (
    "Here is what I need. {}\nThat is the whole task.",
    "I want a small function that does the following. {}",
    "Please follow this description closely. {}",
    "Your job is described here. {}\nNothing else is asked for.",
)


def noisy(spec: str, kind: str | None, seed: int, keep: Collection[str] = ()) -> str:
    """Return the spec with noise of a kind; another wherever there is a word to change."""
    if kind is None:
        return spec
    return (typos if kind == "typos" else paraphrase)(spec, seed, keep)


def typos(spec: str, seed: int, keep: Collection[str] = (), share: float = SHARE) -> str:
    """Swap, drop or double a letter inside `share` of the words, one at least."""
    pattern = re.compile(rf"{_guard(keep)}|(?P<word>\w+)|\W", re.IGNORECASE)
    found = list(pattern.finditer(spec))
    pieces = [match[0] for match in found]
    slots = [i for i, match in enumerate(found) if match["word"] and _may_slip(match["word"])]
    chance = own_chance(spec, seed)
    num = min(len(slots), max(1, round(share * len(spec.split()))))
    for i in chance.sample(slots, num):
        pieces[i] = _slip(pieces[i], chance)
    return "".join(pieces)


def paraphrase(spec: str, seed: int, keep: Collection[str] = ()) -> str:
    """Say the same in other words, inside a frame that the seed picks."""

    def rephrase(match: re.Match[str]) -> str:
        phrase = match["phrase"]
        if phrase is None:
            return match[0]
        other = PHRASES[phrase.lower()]
        return other[0].upper() + other[1:] if phrase[0].isupper() else other

    phrases = "|".join(map(re.escape, PHRASES))
    pattern = re.compile(rf"{_guard(keep)}|\b(?P<phrase>{phrases})\b", re.IGNORECASE)
    text = pattern.sub(rephrase, spec.strip())
    return own_chance(spec, seed).choice(FRAMES).replace("{}", text)


def _guard(keep: Collection[str]) -> str:
    """A pattern of what must stay: quoted, in braces, or one of `keep`."""
    kept = sorted((re.escape(text.strip()) for text in keep if text.strip()), key=len, reverse=True)
    return "|".join([_PROTECTED, *(rf"(?<!\w){text}(?!\w)" for text in kept)])


def _may_slip(word: str) -> bool:
    """Whether a word may be misspelt: plain, long enough, and no label by its looks."""
    return word.isalpha() and len(word) >= _SHORTEST and not word.isupper()


def _slip(word: str, chance: random.Random) -> str:
    """One slip inside a word, never at its first letter; always another word."""
    swaps = [i for i in range(1, len(word) - 1) if word[i] != word[i + 1]]
    kind = chance.choice(("swap", "drop", "double") if swaps else ("drop", "double"))
    if kind == "swap":
        i = chance.choice(swaps)
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    i = chance.randrange(1, len(word))
    return word[:i] + (word[i] * 2 if kind == "double" else "") + word[i + 1 :]
