"""Every error of ours goes from one process to another whole, whoever catches it there."""

from __future__ import annotations

import ast
import copy
import importlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paw_mlx.adapter import Site
from paw_mlx.convert.receipt import Receipt, ReceiptError, SiteReceipt
from paw_mlx.errors import PawError, PseudoProgramError

ROOT = Path(__file__).parents[1]
# What an error takes besides its message.
MORE: dict[type[PawError], tuple[Any, ...]] = {
    PseudoProgramError: ("what it answered",),
    ReceiptError: (Receipt((SiteReceipt(Site(0, "q_proj"), None, None),)),),
}


def classes() -> Iterator[tuple[str, str, list[str]]]:
    """Yield every class of the package: its module, its name, the names of its bases."""
    for folder, package in (("paw_mlx", ""), ("convert", "paw_mlx."), ("benchmarks", "paw_mlx.")):
        for file in sorted((ROOT / folder).rglob("*.py")):
            path = file.relative_to(ROOT).with_suffix("")
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases = [ast.unparse(base).split(".")[-1] for base in node.bases]
                    yield package + ".".join(path.parts), node.name, bases


def errors() -> list[type[PawError]]:
    """Return PawError and all that is derived from it, found without importing the rest."""
    found = {"PawError": "paw_mlx.errors"}
    known = list(classes())
    while new := {n: m for m, n, bases in known if n not in found and {*bases} & {*found}}:
        found |= new
    return [getattr(importlib.import_module(module), name) for name, module in found.items()]


ERRORS = errors()


def test_the_errors_of_the_whole_package_are_found() -> None:
    assert len(ERRORS) >= 15
    assert all(issubclass(error, PawError) for error in ERRORS)
    assert {"Unkept", "PseudoProgramError", "DiskError"} <= {error.__name__ for error in ERRORS}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("how", ["pickle", "copy"])
def test_an_error_comes_out_of_a_pickle_as_it_went_in(kind: type[PawError], how: str) -> None:
    error = kind("what happened, with 3 numbers", *MORE.get(kind, ()))
    error.add_note("What may be done about it.")
    error.__dict__["row"] = 7
    got = pickle.loads(pickle.dumps(error)) if how == "pickle" else copy.copy(error)
    assert type(got) is kind
    assert str(got) == str(error) == "what happened, with 3 numbers"
    assert (got.args, got.hints, vars(got)) == (error.args, error.hints, vars(error))
    assert got.hints[-1] == "What may be done about it."
    assert pickle.loads(pickle.dumps(got)).hints == error.hints


def test_a_hint_and_an_answer_are_kept() -> None:
    error = pickle.loads(pickle.dumps(PseudoProgramError("no answer was one", "I cannot.")))
    assert error.answer == "I cannot."
    assert error.hints[1:] == ["The last answer was:\nI cannot."]
    error = pickle.loads(pickle.dumps(PawError("it is wrong", hint="Turn it round.")))
    assert error.hints == ["Turn it round."]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("two\nlines\r\n\tand more", "two lines   and more"),
        ("\x1b[2J\x07 clears", "\\x1b[2J\\x07 clears"),
        ("\u202eright to left", "\\u202eright to left"),
        ("half \ud800", "half \\ud800"),
        ("a\u00a0blank, été 🌍", "a blank, été 🌍"),
    ],
)
def test_a_sentence_is_one_line_that_no_terminal_obeys(said: str, told: str) -> None:
    error = PawError(said, hint=said)
    error.add_note(said)
    assert str(error) == told
    assert "".join(error.hints[0].split()) == "".join(told.split())
    assert all(c.isprintable() or c == "\n" for hint in error.hints for c in hint)
    assert str(PawError.of({"code": "PawError", "message": said})) == told


def test_a_sentence_is_no_book() -> None:
    long = "begin " + "x" * 100_000 + " end"
    error = PawError(long, hint=long)
    for told in (str(error), error.hints[0]):
        assert len(told) < 2100
        assert told.startswith("begin x")
        assert told.endswith("x end")


@pytest.mark.parametrize("record", [{}, {"hints": 3}, {"hints": None}, {"code": [], "hints": [7]}])
def test_any_record_is_an_error(record: dict[str, Any]) -> None:
    assert type(PawError.of(record)) is PawError
