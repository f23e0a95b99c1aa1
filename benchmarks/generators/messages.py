"""Put values into realistic messages: frames, filler round them, greetings, noise."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from paw_mlx.benchmarks.generators.bank import fill, line, lines


def message(rng: Random, frame: str, values: list[str]) -> str:
    """Write a message that carries the values in their order, or none, with filler round them."""
    section = frame if values else f"{frame}-decoy"
    frames = lines("messages", section)
    chosen = rng.sample(frames, len(values) or rng.choice([0, 1, 1]))
    parts = [fill(text, x=value) for text, value in zip(chosen, values or ["", ""], strict=False)]
    room = rng.choice([0, 0, 1, 1, 2, 3]) if parts else rng.randint(1, 3)
    for filler in rng.sample(lines("messages", "filler"), room):
        parts.insert(rng.randint(0, len(parts)), noisy(rng, filler))
    if rng.random() < 0.3:
        parts.insert(0, line(rng, "messages", "greeting"))
    if rng.random() < 0.25:
        parts.append(line(rng, "messages", "signoff"))
    return join(rng, parts)


def join(rng: Random, parts: list[str]) -> str:
    """Join a message's sentences by blanks or line ends, with a stop where one is missing."""
    mark = rng.choice([" ", " ", " ", "\n"])
    text = parts[0]
    for part in parts[1:]:
        bare = text[-1].isalnum() and mark == " "
        text += (rng.choice([" –", ";", " ..."]) if bare else "") + mark + part
    return text


def dealt(rng: Random, texts: list[str]) -> Callable[[], str]:
    """Return a dealer of texts: it gives each once before it gives one again."""
    deck: list[str] = []

    def deal() -> str:
        if not deck:
            deck.extend(rng.sample(texts, len(texts)))
        return deck.pop()

    return deal


def noisy(rng: Random, text: str) -> str:
    """Leave a text as it is, or shout it, or drop its capital and stop, or swap two letters."""
    kind = rng.choice(["plain"] * 6 + ["shout", "small", "small", "swap"])
    if kind == "shout":
        return text.upper()
    if kind == "small":
        return text[0].lower() + text[1:].rstrip(". ")
    return swapped(rng, text) if kind == "swap" else text


def swapped(rng: Random, text: str) -> str:
    """Swap two inner letters of one longer word, as a typing slip does."""
    parts = text.split(" ")
    long = [at for at, part in enumerate(parts) if len(part) > 5 and part.isalpha()]
    if long:
        at = rng.choice(long)
        part, cut = parts[at], rng.randint(1, len(parts[at]) - 3)
        parts[at] = part[:cut] + part[cut + 1] + part[cut] + part[cut + 2 :]
    return " ".join(parts)
