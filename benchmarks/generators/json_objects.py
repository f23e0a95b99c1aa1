"""Draw functions on JSON objects: read, build, repair, filter, rename, flatten."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random

from paw_mlx.benchmarks.generators import values
from paw_mlx.benchmarks.generators.bank import lines, phrases, word, words
from paw_mlx.benchmarks.generators.core import Case, Draft, family
from paw_mlx.benchmarks.generators.labels import two_way

Object = dict[str, object]
CHOICES = {
    "status": "open closed pending paid draft shipped",
    "team": "red blue sales north design ops",
    "size": "S M L XL XXL small large",
    "country": "Peru Ghana Norway Japan Chile Poland Kenya",
    "language": "en de fr English Spanish Turkish",
    "title": "Dr Ms Mr Editor Manager Invoice Hello Draft",
}
MARKS = [", ", " | ", "; ", " ", ",", " / "]


def value(rng: Random, key: str) -> object:
    """Draw a value that suits a key."""
    if key in ("age", "count", "score", "level", "price", "id"):
        return rng.choice([rng.randint(1, 99), int(values.digits(rng, 3))])
    if key == "active":
        return rng.random() < 0.5
    if key == "email":
        return values.email(rng)
    if key in CHOICES:
        return rng.choice(CHOICES[key].split())
    kinds = {"city": "city", "name": "first", "owner": "last", "color": "colour"}
    return word(rng, kinds.get(key, "thing"))


def record(rng: Random, low: int = 2, high: int = 5) -> Object:
    """Draw an object."""
    keys = rng.sample(words("key"), rng.randint(low, high))
    return {key: value(rng, key) for key in keys}


def written(rng: Random, thing: object) -> str:
    """Write JSON in one of the usual layouts."""
    forms: list[Callable[[], str]] = [
        lambda: tight(thing),
        lambda: json.dumps(thing, ensure_ascii=False, separators=(",", ":")),
        lambda: json.dumps(thing, ensure_ascii=False, indent=2),
    ]
    return rng.choice([forms[0], *forms])()


def tight(thing: object) -> str:
    """Write JSON on one line with a blank after each colon and comma."""
    return json.dumps(thing, ensure_ascii=False)


def plain(thing: object) -> str:
    """Write a value as JSON does, a text without its quotes."""
    return thing if isinstance(thing, str) else tight(thing)


def objects(
    rng: Random, section: str, change: Callable[[Object], str], must: str = "", **slots: str
) -> Draft:
    """Draw a function of an object; the key `must` is there in three of four objects."""

    def case() -> Case:
        drawn = record(rng)
        if must and must not in drawn and rng.random() < 0.6:
            pairs = [*drawn.items(), (must, value(rng, must))]
            drawn = dict(rng.sample(pairs, len(pairs)))
        return written(rng, drawn), change(drawn)

    return Draft(phrases("json", section, **slots), case)


@family("json", "json-get-inner")
def get_inner(rng: Random) -> Draft:
    """Draw a function that reads a key of an inner object."""
    outer = rng.choice(["user", "order", "address", "meta", "item"])
    key = word(rng, "key")

    def case() -> Case:
        inner = {**record(rng, 1, 2), key: value(rng, key)}
        drawn = {**record(rng, 1, 2), outer: dict(rng.sample([*inner.items()], len(inner)))}
        return written(rng, drawn), plain(inner[key])

    return Draft(phrases("json", "get-inner", outer=outer, key=key), case)


@family("json", "json-keys")
def keys(rng: Random) -> Draft:
    """Draw a function that lists keys."""
    mark = rng.choice(MARKS)
    return objects(rng, "keys", mark.join, mark=mark)


@family("json", "json-values")
def values_of(rng: Random) -> Draft:
    """Draw a function that lists values."""
    mark = rng.choice(MARKS[:3])
    return objects(rng, "values", lambda all_: mark.join(map(plain, all_.values())), mark=mark)


@family("json", "json-count")
def count(rng: Random) -> Draft:
    """Draw a function that counts keys."""

    def case() -> Case:
        drawn = record(rng, 1, 7)
        return written(rng, drawn), str(len(drawn))

    return Draft(phrases("json", "count"), case)


@family("json", "json-build")
def build(rng: Random) -> Draft:
    """Draw a function that builds an object of texts."""

    def case() -> Case:
        drawn = {key: plain(thing) for key, thing in record(rng, 2, 4).items()}
        return "\n".join(f"{key}: {text}" for key, text in drawn.items()), tight(drawn)

    return Draft(phrases("json", "build"), case)


@family("json", "json-build-typed")
def build_typed(rng: Random) -> Draft:
    """Draw a function that builds an object with numbers and booleans."""

    def case() -> Case:
        drawn = record(rng, 2, 4)
        return "; ".join(f"{key}={plain(thing)}" for key, thing in drawn.items()), tight(drawn)

    return Draft(phrases("json", "build-typed"), case)


def damaged(rng: Random, drawn: Object) -> str:
    """Write an object with one or two of the common damages."""
    text = tight(drawn)
    ends: list[Callable[[str], str]] = [
        lambda t: t[:-1] + ",}",
        lambda t: t[:-1],
        lambda t: f"```json\n{t[:-1]},\n}}\n```",
        lambda t: t[1:],
    ]
    inside: list[Callable[[str], str]] = [
        lambda t: t.replace('"', "'"),
        lambda t: re.sub(r'"(\w+)":', r"\1:", t),
        lambda t: t.replace(", ", " ", 1),
        lambda t: t.replace("true", "True").replace("false", "False").replace('"', "'"),
        lambda t: t.replace(": ", " = "),
        lambda t: t.replace('"', "“", 1).replace('"', "”", 1),
        lambda t: t.replace(", ", "; "),
    ]
    kind = rng.choice(["ends", "inside", "inside", "both"])
    if kind != "inside":
        text = rng.choice(ends)(text)
    return rng.choice(inside)(text) if kind != "ends" else text


@family("json", "json-repair")
def repair(rng: Random) -> Draft:
    """Draw a function that repairs JSON."""

    def case() -> Case:
        drawn = record(rng, 2, 4)
        return damaged(rng, drawn), tight(drawn)

    return Draft(phrases("json", "repair"), case)


def is_json(text: str) -> bool:
    """Tell whether a parser accepts the text."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@family("yesno", "json-valid")
def valid(rng: Random) -> Draft:
    """Draw a function that tells valid JSON from broken JSON."""
    yes, no = rng.choice(lines("json", "valid")).split(" | ")

    def broken() -> str:
        while is_json(text := damaged(rng, record(rng, 2, 3))):
            pass
        return text

    return two_way(rng, yes, no, ((lambda: written(rng, record(rng, 1, 3))), broken))
