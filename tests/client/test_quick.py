"""The short way of `run` takes its arguments as the long way does."""

from __future__ import annotations

import io
import itertools
import json
import random
import sys
from typing import Any

import click
import pytest

from paw_mlx import quick
from paw_mlx.cli.run import command

WORDS = [
    "one", "-", "--", "", "disk is full", "-x", "--json", "--stream", "--offline", "--local",
    "--strict", "--max-tokens", "--max-tokens=3", "3", "0", "--temperature", "0.5", "--seed=7",
    "--seed", "--overflow", "tail", "--overflow=middle", "--interpreter", "--help", "--labels",
    "a,b",     "--max-tokens=x", "-3",
]  # fmt: skip


def long_way(words: list[str]) -> dict[str, Any] | None:
    """Return what click makes of the arguments; None where it refuses."""
    try:
        with command.make_context("run", [*words], resilient_parsing=False) as context:
            return context.params
    except (click.ClickException, click.exceptions.Exit):
        return None


def test_what_it_understands_is_what_click_understands(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(0)
    some = [chance.choices(WORDS, k=chance.randrange(1, 7)) for _ in range(4000)]
    understood = 0
    for words in [*map(list, itertools.product(WORDS, repeat=2)), *some]:
        asked = quick.parse(words)
        if asked is None:
            continue
        found = long_way(words)
        if found is None:  # an overflow that is none: the daemon says so, and click then
            assert asked.options.get("overflow") not in ("error", "head", "tail", "middle", None)
            continue
        understood += 1
        assert not any(found[name] for name in ("stream", "local", "file", "labels")), words
        assert found["program"] == asked.program
        assert found["as_json"] == asked.as_json
        assert (found["input"] if found["input"] != "-" else None) == asked.input
        for name in ("max_tokens", "temperature", "seed", "overflow"):
            default = {"temperature": 0.0, "overflow": "error"}.get(name)
            assert found[name] == asked.options.get(name, default), words
        assert (found["strict"], found["offline"]) == (
            asked.base.get("strict", False),
            asked.base.get("offline", False),
        )
        assert (found["interpreter"] or None) == asked.base.get("interpreter")
    assert understood > 300


@pytest.mark.parametrize("as_json", [False, True])
def test_a_terminal_obeys_nothing_of_an_output_and_a_pipe_gets_all_of_it(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "\x1b[2J\x07\u202e\x9b1m\rend"
    record = {"text": evil, "finish_reason": "stop", "cut_tokens": 0}
    for is_terminal in (False, True):
        stdout = io.StringIO()
        monkeypatch.setattr(stdout, "isatty", lambda told=is_terminal: told)
        monkeypatch.setattr(sys, "stdout", stdout)
        quick._print(
            {"record": record, "program_id": "x", "threshold": None},
            quick.Asked("p", "i", {}, {}, as_json),
        )
        seen = stdout.getvalue()
        assert not (is_terminal and {*"\x1b\x07\u202e\x9b\r"} & {*seen})
        assert is_terminal or as_json or seen == f"{evil}\n"
        assert not as_json or json.loads(seen)["text"] == evil
