"""A corpus of fuzzy functions: what a compiler is trained on and judged by.

One function a line of JSONL, in FuzzyBench's terms with more around them:

    {"function": "shop/refund", "kind": "intent-routing", "family": "classify",
     "labels": ["yes", "no"] or null, "specs": [...], "cases": [{"input": ..., "output": ...}]}

`specs` say the same in several people's words; each settles every case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cases import Case
from .errors import FormatError, NotFound, OptionError, listed
from .rows.jsonl import read_jsonl


@dataclass(frozen=True)
class FuzzyFunction:
    """A function by its cases, and specs that each say what it does.

    `kind` groups functions that are much alike; `labels` are all outputs it has, if they are few.
    """

    name: str
    kind: str
    family: str
    specs: tuple[str, ...]
    cases: tuple[Case, ...]
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Division:
    """A corpus, divided by function: to train on, to judge by, and whole kinds to judge by."""

    trained: tuple[FuzzyFunction, ...]
    unseen: tuple[FuzzyFunction, ...]
    held_kinds: tuple[FuzzyFunction, ...]


def divide_corpus(functions: Iterable[FuzzyFunction], held_kinds: Iterable[str] = ()) -> Division:
    """Hold out whole kinds, and of the others a twentieth of the functions, by their names' hash.

    OptionError for a kind that is not there.
    """
    functions, kinds = tuple(functions), set(held_kinds)
    if lacking := sorted(kinds - {function.kind for function in functions}):
        raise OptionError(f"no function of the corpus is of the kinds {listed(lacking)}")
    apart = tuple(function for function in functions if function.kind in kinds)
    others = [function for function in functions if function.kind not in kinds]
    unseen = tuple(function for function in others if _is_twentieth(function.name))
    trained = tuple(function for function in others if not _is_twentieth(function.name))
    return Division(trained, unseen, apart)


def _is_twentieth(name: str) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 20 == 0


def read_corpus(paths: Iterable[Path]) -> list[FuzzyFunction]:
    """Read JSONL files, and those in folders, in order; FormatError for a line that is no function.

    NotFound for what is not there, FormatError for a name that two functions have.
    """
    found: dict[str, FuzzyFunction] = {}
    for path in _find_files(paths):
        for number, row in read_jsonl(path, "functions"):
            function = _make_function(f"{path}, line {number}", row)
            if function.name in found:
                raise FormatError(f"{path}, line {number}: {function.name!r} is there already")
            found[function.name] = function
    return list(found.values())


def _find_files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        inside = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not inside:
            raise NotFound(f"no .jsonl file in {path}")
        yield from inside


def _make_function(where: str, row: object) -> FuzzyFunction:
    match row:
        case {
            "function": str(name),
            "kind": str(kind),
            "specs": [*specs],
            "cases": [*cases],
            **more,
        }:
            family = str(more.get("family", kind))
            labels: Any = more.get("labels")
        case _:
            raise FormatError(f'{where}: a function needs "function", "kind", "specs" and "cases"')
    if not specs or not all(isinstance(spec, str) and spec.strip() for spec in specs):
        raise FormatError(f"{where}: {name} needs specs, each a text")
    if not cases:
        raise FormatError(f"{where}: {name} has no cases")
    made = []
    for number, case in enumerate(cases, 1):
        match case:
            case {"input": str(text), "output": str(output)}:
                made.append(Case(text, output))
            case _:
                raise FormatError(f'{where}: case {number} needs the texts "input" and "output"')
    odd = sorted({case.output for case in made} - set(labels or ()))
    if labels and odd:
        raise FormatError(f"{where}: the output {odd[0]!r} is none of the labels of {name}")
    known = tuple(map(str, labels)) if labels else None
    return FuzzyFunction(name, kind, family, tuple(specs), tuple(made), known)
