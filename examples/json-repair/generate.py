"""Writes train.jsonl and test.jsonl: malformed JSON and the JSON that was meant.

The same seed writes the same bytes. Each row breaks a small record in one or two ways that
still leave one natural reading. No string value of the test rows occurs in a training row.

    python generate.py [FOLDER]     (default: the folder of this file)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

SEED = 18
MAX_CHARS = 76
STYLES = ((", ", ": "), (", ", ": "), (",", ":"), (",", ": "))

WORDS = {
    "person": "Ada Bruno Chiara Dmitri Elif Farah Goran Hana Igor Jun Kofi Lena Mateo Noor Olga",
    "city": "Oslo Porto Gent Kraków Lima Quito Hanoi Turku Bergen Graz Malmö Bari Leeds Cádiz Riga",
    "thing": "lamp teapot desk kettle scarf bicycle tent violin mirror carpet drill ladder clock",
    "color": "red teal amber ivory navy olive pink black coral beige violet silver rust mint gold",
    "state": "open closed pending active draft failed queued shipped paid late new blocked done",
    "tag": "urgent sale demo beta legal spring vip internal audit fragile bulk gift trial archive",
    "host": "web-1 db-2 cache-3 mail-4 edge-5 auth-6 jobs-7 proxy-8 search-9 logs-10 api-11 dns-12",
    "file": "notes.txt photo.png main.py report.pdf data.csv intro.mp3 logo.svg index.html todo.md",
    "money": "EUR USD NOK PLN JPY CHF SEK GBP BRL INR",
    "lang": "en de fi pt ja it cs nl ko sv",
    "dish": "ramen pizza curry soup tacos salad pho lasagne borscht paella dumplings falafel",
    "sky": "rain fog snow clear hail storm drizzle cloudy sleet windy",
    "song": "Low Tide|Paper Moon|Night Bus|Blue Hour|Slow Train|Old Harbour|First Snow|Warm Rain",
    "mail": "ana@example.com|tom@example.org|info@example.net|kim@example.org|jo@example.com",
    "note": "todo|check this|default|from config|old value|optional|fix later|ask ops|temporary",
}
RANGES = {"small": 9, "age": 90, "count": 400, "id": 9999, "port": 9000}
THEMES = [
    "name:person age:age city:city active:flag email:mail manager:maybe_person",
    "id:id item:thing color:color qty:small price:price in_stock:flag",
    "order:id status:state total:price currency:money paid:flag coupon:maybe_tag",
    "host:host port:port tls:flag retries:small timeout:price region:city",
    "file:file size:count public:flag owner:person checksum:null",
    "title:song artist:person rating:price liked:flag plays:count",
    "dish:dish price:price vegan:flag table:small notes:maybe_tag",
    "city:city temp:signed sky:sky wind:small alert:flag",
    "user:person lang:lang dark_mode:flag font_size:age theme:color",
    "task:id assignee:maybe_person state:state blocked:flag points:small",
    "sensor:id value:signed ok:flag room:count unit:null",
    "from:city to:city seats:small minutes:count direct:flag",
    "level:small player:person score:id alive:flag weapon:maybe_thing",
    "page:count limit:age sort:tag desc:flag cursor:null",
]
LISTS = "tags:tag hosts:host colors:color cities:city items:thing scores:small ids:count files:file"
NESTS = "owner user meta address config item limits source"


class Lexeme(NamedTuple):
    kind: str  # open close key text number literal comma colon gap
    text: str


Lexemes = list[Lexeme]
Defect = Callable[[Random, Lexemes], Lexemes]


class Records:
    """Draws small records; the held-out side owns every third word of each list."""

    def __init__(self, rng: Random, *, held_out: bool) -> None:
        self.rng = rng
        self.words = {
            kind: [w for i, w in enumerate(split(text)) if (i % 3 == 2) == held_out]
            for kind, text in WORDS.items()
        }

    def scalar(self, kind: str) -> Any:
        if kind in self.words:
            return self.rng.choice(self.words[kind])
        if kind in RANGES:
            return self.rng.randrange(1, RANGES[kind] + 1)
        if kind.startswith("maybe_"):
            return self.scalar(kind.removeprefix("maybe_")) if self.rng.random() < 0.5 else None
        draws: dict[str, Callable[[], Any]] = {
            "flag": lambda: self.rng.random() < 0.5,
            "null": lambda: None,
            "price": lambda: self.rng.randrange(1, 400) / self.rng.choice((2, 10, 10)),
            "signed": lambda: self.rng.randrange(-20, 40),
        }
        return draws[kind]()

    def flat(self, num_keys: int) -> dict[str, Any]:
        fields = self.rng.choice(THEMES).split()
        while len(fields) > num_keys:
            fields.pop(self.rng.randrange(len(fields)))
        return {key: self.scalar(kind) for key, kind in (f.split(":") for f in fields)}

    def named_list(self) -> tuple[str, list[Any]]:
        key, kind = self.rng.choice(LISTS.split()).split(":")
        drawn = [self.scalar(kind) for _ in range(self.rng.randrange(1, 5))]
        return key, list(dict.fromkeys(drawn))

    def record(self) -> Any:
        """One record: flat, with a list, nested once, or a list at the top."""
        shape = self.rng.random()
        if shape < 0.5:
            return self.flat(self.rng.randrange(2, 5))
        if shape < 0.7:
            pairs = [*self.flat(2).items()]
            pairs.insert(self.rng.randrange(3), self.named_list())
            return dict(pairs)
        if shape < 0.85:
            pairs = [*self.flat(self.rng.randrange(1, 3)).items()]
            nest = (self.rng.choice(NESTS.split()), self.flat(self.rng.randrange(1, 3)))
            pairs.insert(self.rng.randrange(len(pairs) + 1), nest)
            return dict(pairs)
        if shape < 0.93:
            return [self.flat(2) for _ in range(self.rng.randrange(1, 3))]
        return self.named_list()[1]


def split(text: str) -> list[str]:
    return text.split("|") if "|" in text else text.split()


def lexemes(value: Any) -> Lexemes:
    """The JSON text of `value`, cut into its pieces."""
    if isinstance(value, dict):
        parts = [
            [Lexeme("key", json.dumps(k)), Lexeme("colon", ":"), *lexemes(v)]
            for k, v in value.items()
        ]
        return [Lexeme("open", "{"), *joined(parts), Lexeme("close", "}")]
    if isinstance(value, list):
        return [Lexeme("open", "["), *joined([lexemes(v) for v in value]), Lexeme("close", "]")]
    kind = "text" if isinstance(value, str) else "number"
    if value is None or isinstance(value, bool):
        kind = "literal"
    return [Lexeme(kind, json.dumps(value, ensure_ascii=False))]


def joined(parts: list[Lexemes]) -> Lexemes:
    return [x for i, part in enumerate(parts) for x in ([Lexeme("comma", ",")] * (i > 0) + part)]


def text_of(lex: Lexemes, style: tuple[str, str]) -> str:
    comma, colon = style
    gaps = {"comma": comma[1:], "colon": colon[1:]}
    return "".join(x.text + gaps.get(x.kind, "") for x in lex).strip()


def where(lex: Lexemes, kind: str) -> list[int]:
    return [i for i, x in enumerate(lex) if x.kind == kind]


# A defect returns the pieces unchanged when it finds nothing to break.


def single_quotes(rng: Random, lex: Lexemes) -> Lexemes:
    return [
        x._replace(text=x.text.replace('"', "'")) if x.kind in ("key", "text") else x for x in lex
    ]


def unquoted_keys(rng: Random, lex: Lexemes) -> Lexemes:
    return [x._replace(text=x.text.strip("\"'")) if x.kind == "key" else x for x in lex]


def trailing_comma(rng: Random, lex: Lexemes) -> Lexemes:
    i = rng.choice(where(lex, "close") or [len(lex)])
    return [*lex[:i], Lexeme("gap", ","), *lex[i:]]


def missing_comma(rng: Random, lex: Lexemes) -> Lexemes:
    return replaced(rng, lex, "comma", Lexeme("gap", " "))


def equals_sign(rng: Random, lex: Lexemes) -> Lexemes:
    return replaced(rng, lex, "colon", Lexeme("gap", rng.choice(("=", " = "))))


def replaced(rng: Random, lex: Lexemes, kind: str, new: Lexeme) -> Lexemes:
    """One or all pieces of `kind` become `new`."""
    found = where(lex, kind)
    chosen = found if not found or rng.random() < 0.3 else [rng.choice(found)]
    return [new if i in chosen else x for i, x in enumerate(lex)]


def missing_close(rng: Random, lex: Lexemes) -> Lexemes:
    """Closers lost at the end, or the one of a list before the next key."""
    inner = [
        i
        for i in where(lex, "close")
        if lex[i].text == "]" and [x.kind for x in lex[i + 1 : i + 3]] == ["comma", "key"]
    ]
    if inner and rng.random() < 0.6:
        i = rng.choice(inner)
        return [*lex[:i], *lex[i + 1 :]]
    run = 0
    while lex[-1 - run].kind == "close":
        run += 1
    return lex[: len(lex) - rng.randrange(1, run + 1)] if run else lex


def python_literals(rng: Random, lex: Lexemes) -> Lexemes:
    names = {"true": "True", "false": "False", "null": "None"}
    return [x._replace(text=names.get(x.text, x.text)) if x.kind == "literal" else x for x in lex]


def missing_key_quote(rng: Random, lex: Lexemes) -> Lexemes:
    i = rng.choice(where(lex, "key") or [len(lex)])
    return [x._replace(text=x.text[:-1]) if j == i else x for j, x in enumerate(lex)]


def comment(rng: Random, lex: Lexemes, note: str) -> Lexemes:
    commas = where(lex, "comma")
    if commas and rng.random() < 0.5:
        i = rng.choice(commas) + 1
        return [*lex[:i], Lexeme("gap", f"/* {note} */ "), *lex[i:]]
    return [*lex, Lexeme("gap", rng.choice((" // ", " # ")) + note)]


def defects(notes: list[str]) -> list[Defect]:
    def noted(rng: Random, lex: Lexemes) -> Lexemes:
        return comment(rng, lex, rng.choice(notes))

    return [
        single_quotes,
        missing_close,
        unquoted_keys,
        trailing_comma,
        python_literals,
        missing_comma,
        equals_sign,
        missing_key_quote,
        noted,
    ]


CLASHES = ({unquoted_keys, missing_key_quote}, {missing_close, trailing_comma})


def broken(rng: Random, value: Any, chosen: list[Defect]) -> str | None:
    """`value` as text with the chosen defects; None where one does not apply."""
    lex = lexemes(value)
    for defect in chosen:
        before, lex = lex, defect(rng, lex)
        if lex == before:
            return None
    text = text_of(lex, rng.choice(STYLES))
    return None if parses(text) else text


def parses(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def rows(rng: Random, count: int, *, held_out: bool, seen: set[str]) -> list[dict[str, str]]:
    """`count` rows whose outputs are not in `seen`; the first defect goes round in turn."""
    records = Records(rng, held_out=held_out)
    kinds = defects(records.words["note"])
    found: list[dict[str, str]] = []
    while len(found) < count:
        value = records.record()
        output = json.dumps(value, ensure_ascii=False)
        chosen = [kinds[len(found) % len(kinds)]]
        if rng.random() < 0.4:
            chosen.append(rng.choice([k for k in kinds if k not in chosen]))
        if len(output) > MAX_CHARS or output in seen or any(c <= set(chosen) for c in CLASHES):
            continue
        text = broken(rng, value, chosen)
        if text is not None:
            seen.add(output)
            found.append({"input": text, "output": output})
    return found


def main(folder: Path) -> None:
    rng, seen = Random(SEED), set[str]()
    for name, count, held_out in (("train", 800, False), ("test", 80, True)):
        lines = [
            json.dumps(row, ensure_ascii=False) + "\n"
            for row in rows(rng, count, held_out=held_out, seen=seen)
        ]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
