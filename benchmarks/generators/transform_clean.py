"""Draw transforms that clean, mask or rewrite a text."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from paw_mlx.benchmarks.generators import values
from paw_mlx.benchmarks.generators.bank import fill, line, lines, phrases, word, words
from paw_mlx.benchmarks.generators.core import Case, Draft, family
from paw_mlx.benchmarks.generators.messages import join, message, noisy
from paw_mlx.benchmarks.generators.transform_words import changing

MASKS = ["[X]", "***", "<hidden>", "[REDACTED]", "XXX", "#", "___", "(removed)", "…"]
SHORT = ["appt = appointment", "dept = department", "qty = quantity", "asap = at once"]
SHORT += ["tmrw = tomorrow", "mtg = meeting", "msg = message", "wk = week", "pls = please"]
SHORT += ["acct = account", "ref = reference", "est = estimate", "avg = average", "yr = year"]


@family("transform", "redact-numbers")
def redact_numbers(rng: Random) -> Draft:
    """Draw a function that masks numbers."""
    mask = rng.choice(MASKS)

    def draw(rng: Random) -> str:
        kind, size = rng.choice([("order", 6), ("price", 3), ("phone", 8)])
        return message(rng, kind, [values.digits(rng, size) for _ in range(rng.choice([1, 1, 2]))])

    def change(text: str) -> str:
        return re.sub(r"\d+", lambda _: mask, text)

    return changing(rng, "redact-numbers", draw, change, mask=mask)


@family("transform", "redact-email")
def redact_email(rng: Random) -> Draft:
    """Draw a function that masks e-mail addresses."""
    mask = rng.choice([*MASKS, "[EMAIL]", "<email>"])

    def case() -> Case:
        found = [values.email(rng) for _ in range(rng.choice([0, 1, 1, 1, 2]))]
        text = message(rng, "email", found)
        hidden = text
        for address in sorted(found, key=len, reverse=True):
            hidden = hidden.replace(address, mask)
        return text, hidden

    return Draft(phrases("transform", "redact-email", mask=mask), case)


@family("transform", "redact-name")
def redact_name(rng: Random) -> Draft:
    """Draw a function that masks one person's name."""
    mask, name = rng.choice([*MASKS, "[NAME]", "N.N."]), word(rng, "first")
    section = rng.choice(["intent-message", "tool-email"])

    def draw(rng: Random) -> str:
        who = name if rng.random() < 0.75 else word(rng, "first")
        if rng.random() < 0.5:
            return message(rng, "person", [who])
        slots = {"first": who, "last": word(rng, "last"), "thing": word(rng, "thing")}
        return line(rng, "sentences", section, **slots)

    def change(text: str) -> str:
        return text.replace(name, mask)

    return changing(rng, "redact-name", draw, change, mask=mask, name=name)


@family("transform", "remove-emoji")
def remove_emoji(rng: Random) -> Draft:
    """Draw a function that removes emoji."""

    def case() -> Case:
        parts = noisy(rng, rng.choice(lines("messages", "filler"))).split()
        plain = " ".join(parts)
        for _ in range(rng.randint(1, 3)):
            parts.insert(rng.randint(1, len(parts)), word(rng, "emoji"))
        return " ".join(parts), plain

    return Draft(phrases("transform", "emoji"), case)


@family("transform", "remove-punctuation")
def remove_punctuation(rng: Random) -> Draft:
    """Draw a function that removes punctuation."""

    def draw(rng: Random) -> str:
        first, second = values.sentence(rng), values.headline(rng, 1, 3)
        text = f"{first}{rng.choice([', ', '; ', ': ', '! '])}{second}{rng.choice('.!?')}"
        return text.replace(second, f'"{second}"') if rng.random() < 0.3 else text

    def change(text: str) -> str:
        return re.sub(r"[.,!?;:\"]", "", text)

    return changing(rng, "punctuation", draw, change)


@family("transform", "collapse-blanks")
def collapse_blanks(rng: Random) -> Draft:
    """Draw a function that tidies blanks."""

    def draw(rng: Random) -> str:
        parts = rng.choice(lines("messages", "filler")).split()
        text = "".join(part + " " * rng.choice([1, 1, 2, 3, 5]) for part in parts)
        return " " * rng.choice([0, 0, 2]) + text

    return changing(rng, "blanks", draw, lambda text: " ".join(text.split()))


def by_table(
    rng: Random,
    section: str,
    pairs: dict[str, str],
    frame: Callable[[str], str],
    about: list[str],
) -> Draft:
    """Draw a function that replaces words by a table that the spec states.

    `frame` writes a text round one of the table's words, or one of `about` that it leaves alone.
    """
    form, mark = rng.choice([("{} = {}", ", "), ("{} -> {}", "; "), ("{}: {}", ", ")])
    table = mark.join(form.format(*pair) for pair in pairs.items())

    def draw(rng: Random) -> str:
        old = rng.choice(list(pairs) if rng.random() < 0.8 else about)
        text = frame(old)
        if rng.random() < 0.35:
            text = join(rng, [text, frame(rng.choice(list(pairs)))])
        return text

    def change(text: str) -> str:
        return re.sub(r"\w+", lambda found: pairs.get(found[0], found[0]), text)

    return changing(rng, section, draw, change, table=table)


@family("transform", "expand")
def expand(rng: Random) -> Draft:
    """Draw a function that writes out abbreviations."""
    picked = [entry.split(" = ") for entry in rng.sample(SHORT, rng.randint(3, 5))]
    forms = ["{} for room 4", "need the {} by noon", "new {} on file", "see last {}", "{} missing"]
    forms += ["call me re {}", "next {}: {o}", "{o} per {}", "no {} yet", "{o} and {} sent"]

    def frame(old: str) -> str:
        return rng.choice(forms).format(old, o=word(rng, "thing"))

    pairs = dict(picked)
    return by_table(rng, "expand", pairs, frame, ["list", "call", "draft"])


@family("transform", "replace-words")
def replace_words(rng: Random) -> Draft:
    """Draw a function that replaces words by others, some of them invented."""
    kind = rng.choice(["city", "weekday", "colour", "first"])
    picked = rng.sample(words(kind), 7)
    pairs = {old: values.coined(rng).capitalize() for old in picked[:3]}

    def frame(old: str) -> str:
        return line(rng, "messages", {"first": "person"}.get(kind, kind), x=old)

    return by_table(rng, "table", pairs, frame, picked[3:])


@family("transform", "stop-words")
def stop_words(rng: Random) -> Draft:
    """Draw a function that deletes the words of a list."""
    listed = rng.sample(["the", "a", "my", "our", "near", "today", "again", "very", "really"], 3)
    listed = [*listed[:2], "the"] if "the" not in listed else listed

    def draw(rng: Random) -> str:
        text = values.sentence(rng).lower().split()
        text.insert(rng.randint(1, len(text)), rng.choice(listed))
        return " ".join(text)

    def change(text: str) -> str:
        return " ".join(part for part in text.split() if part not in listed)

    names = f"{', '.join(listed[:-1])} and {listed[-1]}"
    return changing(rng, "stop-words", draw, change, list=names)


MARKDOWN = ["# $x", "## $x", "**$x** $y", "$y *$x*", "`$x` $y", "[$x]($u) $y", "$y [$x]($u)"]
MARKDOWN += ["### **$x** $y", "$y _${x}_", "see [$x]($u) and **$y**"]
HTML = ["<p>$x</p>", "<b>$x</b> $y", "<h1>$x</h1>", '<a href="$u">$x</a>', "<li>$x $y</li>"]
HTML += ["$y <i>$x</i>", '<div class="note"><b>$x</b> $y</div>', "<td>$x</td><td> $y</td>"]


def marked(rng: Random, section: str, templates: list[str], bare: dict[str, str]) -> Draft:
    """Draw a function that strips markup: templates with their plain forms."""

    def case() -> Case:
        slots = {"x": values.headline(rng, 1, 3), "y": values.headline(rng, 1, 3)}
        chosen = rng.choice(templates)
        return fill(chosen, u=values.url(rng), **slots), fill(bare[chosen], **slots)

    return Draft(phrases("transform", section), case)


@family("transform", "markdown-strip")
def markdown_strip(rng: Random) -> Draft:
    """Draw a function that strips Markdown."""
    plain = {text: re.sub(r"\(\$u\)|[#*`\[\]_{}]", "", text).strip() for text in MARKDOWN}
    return marked(rng, "markdown", MARKDOWN, plain)


@family("transform", "html-strip")
def html_strip(rng: Random) -> Draft:
    """Draw a function that strips HTML tags."""
    return marked(rng, "html", HTML, {text: re.sub(r"<[^>]*>", "", text) for text in HTML})


@family("transform", "mask-card")
def mask_card(rng: Random) -> Draft:
    """Draw a function that masks a card number."""

    def draw(rng: Random) -> str:
        parts = [values.digits(rng, 4) for _ in range(rng.choice([2, 3, 4]))]
        return rng.choice([" ", "-", ""]).join(parts)

    def change(text: str) -> str:
        plain = re.sub(r"\D", "", text)
        return "*" * (len(plain) - 4) + plain[-4:]

    return changing(rng, "mask-card", draw, change)


@family("transform", "wrap")
def wrap(rng: Random) -> Draft:
    """Draw a function that puts a text between two marks."""
    pairs = [("<<", ">>"), ("[", "]"), ("**", "**"), ("<b>", "</b>"), ("## ", " ##"), ("{", "}")]
    left, right = rng.choice([*pairs, ("start:", ":end"), ("(", ")"), ("re: ", " (fwd)")])

    def draw(rng: Random) -> str:
        return values.headline(rng, 1, 5)

    def change(text: str) -> str:
        return left + text + right

    shown = {"left": f'"{left}"', "right": f'"{right}"'}
    return changing(rng, "wrap", draw, change, **shown)
