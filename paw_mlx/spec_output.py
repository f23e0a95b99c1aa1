"""The labels that a spec itself names: "Return ONLY one of: ALERT, QUIET."

A wrong set is worse than none, for it forbids what is right. So there is a set only where the spec
says that its output is one of a list, the list is plain, and nothing in the spec speaks against it:
an example's output, another word that it asks for, several labels at once, other letters or signs
than the list has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .errors import OptionError
from .output import Labels

_MAX_CHARS = 8000  # of a spec without its examples
_VERB = (
    r"(?:return|answer|reply|respond|output|print|say|write|give|use|choose|pick|select|assign|"
    r"label|tag|classify|emit)\b"
)
_ONLY = r"(?:only|just|exactly|strictly)"
_NOUN = (
    r"(?:(?:lower-?case|upper-?case|capital|single|team|two-letter) )*(?:words?|labels?|codes?|"
    r"digits?|letters?|tags?|categor(?:y|ies)|class(?:es)?|options?|intents?|levels?|"
    r"genres?|folders?)"
)
# Where an order begins: others do what the verb says elsewhere.
_START = r"(?:^|[.!?:;,(>→\n]\s*|[-–]\s|\b(?:and|please|then|must|should)\s)"
_ORDER = rf"{_START}(?:{_ONLY} )?{_VERB}"
# "Return ONLY one of: …", "Label the note with one of …", "answer with one word: …", "-> one of …"
_OF = rf"(?:of|from)\b(?: (?:the|these|those|following|two|three|four|five|six|{_NOUN})\b)*:?"
_ONE_OF = re.compile(
    rf"(?:{_ORDER}|(?:{_START}|\bto\s){_ONLY}\b|->|→)(?P<filler>[^.:;!?\n]{{0,60}}?)\bone\b"
    rf"(?: {_NOUN})?(?:(?P<of> {_OF})|:)\s*",
    re.IGNORECASE,
)
_STRICT = re.compile(rf"\b{_ONLY} one of\b", re.IGNORECASE)
# "Return ONLY: ON or OFF", "reply with just billing, shipping or account", "only write the digit …"
_JUST = re.compile(
    rf"(?:{_ORDER}(?: (?:me|back|with|as|in))* {_ONLY}|{_START}{_ONLY} {_VERB})"
    rf"(?: (?:with|as|that|the|one|a|an|{_NOUN}))*:?\s+",
    re.IGNORECASE,
)
# "Reply with ON or OFF, nothing else"
_NOTHING_ELSE = re.compile(
    rf"{_ORDER}(?: with)?:?\s+(?=[^.:;!?\n]*\bnothing (?:else|more)\b)", re.IGNORECASE
)
_END = re.compile(r"[.!?;](?=\s|$)|\n|$")
_BULLETS = re.compile(r"\s*\n?((?:[ \t]*[-*•][ \t]+[^\n]+(?:\n|$)){2,})")
_CASE = r"(?:all )?(?:in )?(?:all )?(?:lower-?case|upper-?case|capitals|capital letters)"
_QUALIFIER = re.compile(
    rf",? (?:and )?(?:nothing (?:else|more)|{_CASE}|no (?:punctuation|explanation|other words?)|"
    r"without (?:punctuation|(?:any )?explanation)|exactly as (?:written|spelled|shown))$|"
    r"\([^()]*\)$",
    re.IGNORECASE,
)
_ITEM = re.compile(r"[#@/]?\w[\w+&'’.%#-]*(?: [\w+&'’-]+){0,2}")
_QUOTES = "\"'`“”*"
_QUOTED = re.compile(r"\"[^\"]+\"|'[^']+'|`[^`]+`|“[^”]+”|\*\*[^*]+\*\*")
# What a description has, and hardly a label.
_PROSE = re.compile(
    r"\b(?:a|an|the|any|all|both|each|every|your|my|our|its|his|her|their|this|these|those|some|"
    r"if|when|where|which|who|whose|whichever|whatever|unless|until|depending|as|of|for|from|"
    r"with|without|per|etc|eg|ie|such|like|followed|plus|then|also|only|just|exactly|input|"
    r"text|output)\b",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"\b(?:none|null|nil|n/a|na|nothing|empty|blank|missing)\b",
    re.IGNORECASE,
)
# What is taken out of a text, and so may be meant where one of these is to be returned.
_PARTS = re.compile(
    r"\b(?:names?|title|author|date|time|year|month|day|url|link|e-?mail|phone|id|isbn|doi|iban|"
    r"ip|sku|vin|price|amount|total|numbers?|address|city|country|street|zip|digits|quantity|"
    r"sentence|summary|keywords?|subject|sender|surname|company)\b",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"\b(?:one or (?:more|two|several)|at least one|all that apply|any number|several|multiple|"
    r"up to (?:two|three|\d)|comma[- ]separated|separated by|joined|per line|followed by|json|"
    r"a list of|score|confidence|brackets|quotes|quotation marks|parenthes[ei]s|prefix|suffix|"
    r"full stop|translat\w+|explain|justify|why|add|append|include|"
    r"abbreviat\w+|first letter|initials?)\b",
    re.IGNORECASE,
)
_AND = re.compile(r"\b(?:and|plus|then|or|not|never|than|least)\b|,", re.IGNORECASE)
# Another word that is asked for: 'else UNSURE', 'say "no idea"'.
_ASKED = re.compile(
    r"\b(?i:return|answer|reply|respond|output|print|say|write|use|else|otherwise|is|it's)\b"
    r"(?i:,? (?:with|only|just|it|it's|is|say|return|the|a))*[:,]? "
    r"(?:[\"“`'](?P<quoted>[^\"”`'\n]{1,40})[\"”`']|(?P<plain>[A-Z][A-Z0-9_]+)\b(?![=\w]))"
)
_PAIRS = ({"yes", "no"}, {"Yes", "No"}, {"true", "false"}, {"True", "False"})
_CASES = re.compile(r"^[ \t]*(?:example )?input[ \t]*:.*", re.IGNORECASE | re.MULTILINE | re.DOTALL)
_OUTPUTS = re.compile(r"^[ \t]*outputs?[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)


def labels_in_spec(spec: str) -> Labels | None:
    """Return the labels that a spec says its outputs are, in its order; None unless it is sure."""
    task, outputs = _CASES.sub("", spec), {*map(str.strip, _OUTPUTS.findall(spec))}
    found = [*_lists(task, outputs)] if len(task) <= _MAX_CHARS else []
    if not found or any({*one} != {*found[0]} for one in found):
        return None
    labels = found[0]
    others = {match["quoted"] or match["plain"] for match in _ASKED.finditer(task)}
    asked = {other.strip(".,") for other in others if other.lower() not in ("only", "just", "one")}
    if not (asked | outputs <= {*labels} and _fit_case(task, labels)):
        return None
    try:
        return Labels(tuple(labels))
    except OptionError:
        return None


def _lists(task: str, outputs: set[str]) -> Iterator[list[str]]:
    """Yield the lists of which an output is said to be one, and no more than that."""
    for lead in _ONE_OF.finditer(task):
        rest = task[lead.end() :]
        labels = _read_bullets(rest) or _read_list(rest)
        said = task[lead.start() :] if _STRICT.search(lead[0]) else task
        if not labels or _AND.search(lead["filler"]) or _says_more(said, labels):
            continue
        nothing = any(map(_NOTHING.fullmatch, labels)) and any(map(_PARTS.fullmatch, labels))
        named = lead["of"] or len(_read_list(rest, alternatives=True) or ()) > 2
        if not nothing and (named or _are_borne_out(labels, task, outputs)):
            yield labels
    for lead in (*_JUST.finditer(task), *_NOTHING_ELSE.finditer(task)):
        labels = _read_list(task[lead.end() :], alternatives=True)
        if labels and not _says_more(task, labels) and _are_borne_out(labels, task, outputs):
            yield labels


def _says_more(text: str, labels: list[str]) -> bool:
    """Whether a text asks for more than one of the labels; a label itself asks for nothing."""
    return any(found[0] not in labels for found in _MORE.finditer(text))


def _read_list(text: str, *, alternatives: bool = False) -> list[str] | None:
    """Return the items that a text begins with, up to its sentence's end; None if it has none.

    `alternatives` are joined by "or", a word each, and all in the same letters.
    """
    if not alternatives:
        text = re.sub(r"[ \t]*\([^()]*\)", "", text)
    body = _END.split(text.lstrip(), maxsplit=1)[0].strip()
    while (shorter := _QUALIFIER.sub("", body).rstrip(" ,")) != body:
        body = shorter
    quoted = _QUOTED.findall(body)
    if quoted and not re.sub(r"[\s,/|]|\bor\b|\band\b", "", _QUOTED.sub("", body)):
        return [item.strip(_QUOTES) for item in quoted]
    items = _split(body)
    if alternatives and not (re.search(r"\bor\b", body) and _are_words(items)):
        return None
    return items if len(items) > 1 and all(map(_is_label, items)) else None


def _split(body: str) -> list[str]:
    if "," in body:
        *items, last = re.split(r"\s*,\s*", body)
        return items + re.split(r"\s+(?:or|and)\s+", re.sub(r"^(?:or|and)\s+", "", last))
    for separator in (r"\s*[/|]\s*", r"\s+or\s+"):
        if len(items := re.split(separator, body)) > 1:
            return items
    return body.split() if all(word.startswith("#") for word in body.split()) else []


def _read_bullets(text: str) -> list[str] | None:
    """Return the labels of a list with bullets, where each may be explained after it."""
    if not (found := _BULLETS.match(text)):
        return None
    lines = [line.strip(" \t-*•") for line in found[1].splitlines()]
    items = [re.split(r"\s*(?:[:=(]|\s[-–—]\s)", line)[0].strip(f"{_QUOTES}.") for line in lines]
    return items if all(map(_is_label, items)) else None


def _is_label(item: str) -> bool:
    is_prose = " " in item and _PROSE.search(item)
    return bool(_ITEM.fullmatch(item)) and ".." not in item and not is_prose


def _are_words(items: list[str]) -> bool:
    """Whether all are words of one shape, and none names a part of a text, or its absence."""
    shapes = (str.isupper, str.islower, str.istitle, str.isdigit)
    odd = any(" " in one or _NOTHING.fullmatch(one) or _PARTS.fullmatch(one) for one in items)
    return not odd and any(all(map(shape, items)) for shape in shapes)


def _are_borne_out(labels: list[str], task: str, outputs: set[str]) -> bool:
    """Whether more than a list's place speaks for its being labels, and not a description.

    That is their shape, or what else the spec says of them.
    """
    if all(label == label.upper() for label in labels) or {*labels} in _PAIRS:
        return True
    again = all(len(re.findall(rf"\b{re.escape(label)}\b", task)) > 1 for label in labels)
    quoted = {item.strip(_QUOTES) for item in _QUOTED.findall(task)}
    return again or {*labels} <= quoted or len(outputs) > 1


def _fit_case(task: str, labels: list[str]) -> bool:
    """Whether labels are in the letters that a spec speaks of."""
    text = "".join(labels)
    upper = re.search(r"\bupper-?\s?case|\bcapitals?\b", task, re.IGNORECASE)
    lower = re.search(r"\blower-?\s?case|\bsmall letters", task, re.IGNORECASE)
    return not (upper and text != text.upper()) and not (lower and text != text.lower())
