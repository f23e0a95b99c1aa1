"""Draw functions that take a part: of a path, an address, a row, a list, a record."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from paw_mlx.benchmarks.generators import values
from paw_mlx.benchmarks.generators.bank import phrases, word, words
from paw_mlx.benchmarks.generators.core import Case, Draft, family
from paw_mlx.benchmarks.generators.transform_lists import items
from paw_mlx.benchmarks.generators.transform_words import changing

NTH = ["first", "second", "third", "fourth"]
ABSENT = ["NONE", "none", "-", "n/a", "null", "EMPTY"]


def path(rng: Random) -> str:
    """Draw a file's path."""
    folders = rng.sample(words("path"), rng.randint(1, 4))
    start = rng.choice(["/", "", "/home/", "./", "C:/"])
    return start + "/".join([*folders, values.file_name(rng)])


def page(rng: Random) -> str:
    """Draw a web address that has a path."""
    scheme, host = rng.choice(["http", "https", "https", "ftp"]), word(rng, "domain")
    parts = "/".join([*rng.sample(words("path"), rng.randint(0, 2)), word(rng, "noun")])
    query = rng.choice(["", "", f"?id={values.digits(rng, 3)}", "?lang=en&page=2"])
    return f"{scheme}://{rng.choice(['', 'www.', 'blog.'])}{host}/{parts}{query}"


PLAIN: dict[str, tuple[Callable[[Random], str], Callable[[str], str]]] = {
    "path-name": (path, lambda text: text.rsplit("/", 1)[1]),
    "path-extension": (path, lambda text: text.rsplit(".", 1)[1]),
    "path-folder": (path, lambda text: text.split("/")[-2]),
    "path-stem": (path, lambda text: text.rsplit("/", 1)[1].rsplit(".", 1)[0]),
    "url-host": (page, lambda text: text.split("/")[2]),
    "url-last": (page, lambda text: text.rsplit("/", 1)[1].split("?")[0]),
    "url-scheme": (page, lambda text: text.split(":")[0]),
    "mail-user": (values.email, lambda text: text.split("@")[0]),
    "mail-domain": (values.email, lambda text: text.split("@")[1]),
}


def _register(kind: str) -> None:
    """Register the family of one plain part."""
    draw, change = PLAIN[kind]
    family("extract", kind)(lambda rng: changing(rng, kind, draw, change))


for _kind in PLAIN:
    _register(_kind)


@family("extract", "url-query")
def url_query(rng: Random) -> Draft:
    """Draw a function that reads a parameter of a web address."""
    keys = rng.sample(["id", "lang", "page", "ref", "sort", "token", "user", "q"], 4)
    wanted, absent = keys[0], rng.choice(ABSENT)

    def case() -> Case:
        given = rng.sample(keys, rng.randint(1, 3))
        pairs = {key: rng.choice([values.digits(rng, 2), word(rng, "noun")]) for key in given}
        query = "&".join(f"{key}={value}" for key, value in pairs.items())
        return f"{page(rng).split('?')[0]}?{query}", pairs.get(wanted, absent)

    return Draft(phrases("transform", "url-query", key=wanted, absent=absent), case)


@family("extract", "csv-field")
def csv_field(rng: Random) -> Draft:
    """Draw a function that takes one field of a row."""
    at, mark = rng.randrange(4), rng.choice([",", ", "])

    def draw(rng: Random) -> str:
        row = [values.person(rng), values.digits(rng, 2), word(rng, "city"), values.email(rng)]
        return mark.join(rng.choice([row, [values.digits(rng, 4), *row[:3], word(rng, "thing")]]))

    def change(text: str) -> str:
        return text.split(",")[at].strip()

    return changing(rng, "csv", draw, change, nth=NTH[at], number=str(at + 1))


@family("extract", "nth-item")
def nth_item(rng: Random) -> Draft:
    """Draw a function that takes one item of a list."""
    at, glue = rng.randrange(3), rng.choice([", ", "; ", " | ", " > ", " - "])

    def draw(rng: Random) -> str:
        return glue.join(items(rng, 3, 6))

    def change(text: str) -> str:
        return text.split(glue)[at]

    slots = {"nth": NTH[at], "number": str(at + 1), "glue": glue}
    return changing(rng, "nth-item", draw, change, **slots)


@family("transform", "filter-start")
def filter_start(rng: Random) -> Draft:
    """Draw a function that keeps the items with one first letter."""
    kind, absent = rng.choice(["noun", "adjective", "thing"]), rng.choice(ABSENT)
    letter = rng.choice([name[0] for name in words(kind)])

    def case() -> Case:
        some = [name for name in words(kind) if name[0] == letter]
        picked = rng.sample(words(kind), 3) + rng.sample(some, min(len(some), rng.randint(0, 2)))
        drawn = list(dict.fromkeys(picked))
        rng.shuffle(drawn)
        kept = [name for name in drawn if name[0] == letter]
        return ", ".join(drawn), ", ".join(kept) or absent

    return Draft(phrases("transform", "filter-start", letter=letter, absent=absent), case)


@family("transform", "filter-size")
def filter_size(rng: Random) -> Draft:
    """Draw a function that keeps the numbers above or below a limit."""
    limit, absent, over = rng.choice([10, 50, 100]), rng.choice(ABSENT), rng.random() < 0.5

    def case() -> Case:
        pool = [number for number in range(1, 2 * limit) if number != limit]
        drawn = [str(number) for number in rng.sample(pool, rng.randint(3, 6))]
        kept = [number for number in drawn if (int(number) > limit) == over]
        return ", ".join(drawn), ", ".join(kept) or absent

    slots = {"how": "over" if over else "under", "limit": str(limit), "absent": absent}
    return Draft(phrases("transform", "filter-size", **slots), case)


def record(rng: Random) -> dict[str, str]:
    """Draw a record of three to five fields."""
    all_ = {
        "name": word(rng, "first"),
        "city": word(rng, "city"),
        "status": rng.choice(["open", "closed", "pending", "paid"]),
        "user": word(rng, "first").lower(),
        "size": rng.choice(["S", "M", "L", "XL"]),
        "code": values.digits(rng, 4),
        "team": word(rng, "colour"),
        "price": values.digits(rng, 2),
        "item": word(rng, "thing"),
        "host": values.address(rng),
    }
    return {key: all_[key] for key in rng.sample(list(all_), rng.randint(3, 5))}


@family("extract", "record-field")
def record_field(rng: Random) -> Draft:
    """Draw a function that reads a field of a record in one line."""
    sep, mark = rng.choice([("=", " "), (": ", "; "), (": ", "\n"), ("=", ", "), (" -> ", " | ")])
    wanted, absent = rng.choice(["name", "city", "status", "code", "item"]), rng.choice(ABSENT)

    def case() -> Case:
        fields = record(rng)
        if wanted not in fields and rng.random() < 0.6:
            fields = {**fields, wanted: word(rng, "noun")}
        text = mark.join(f"{key}{sep}{value}" for key, value in fields.items())
        return text, fields.get(wanted, absent)

    return Draft(phrases("transform", "field", key=wanted, sep=sep, absent=absent), case)


@family("extract", "in-brackets")
def in_brackets(rng: Random) -> Draft:
    """Draw a function that takes what stands in brackets."""
    kinds = [("round", "(", ")"), ("square", "[", "]"), ("curly", "{", "}"), ("angle", "<", ">")]
    which, left, right = rng.choice(kinds)

    def draw(rng: Random) -> str:
        first, second = values.headline(rng, 1, 4), rng.choice(["", values.headline(rng, 1, 3)])
        return f"{first} {left}{values.headline(rng, 1, 3)}{right} {second}".strip()

    def change(text: str) -> str:
        return re.split(re.escape(left) + "|" + re.escape(right), text)[1]

    return changing(rng, "brackets", draw, change, which=which, left=left, right=right)
