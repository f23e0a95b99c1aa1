"""A pseudo-program without a model: the spec as it stands, its pairs as examples."""

from __future__ import annotations

import pytest

from paw_mlx import CompileError
from paw_mlx.compiler.pseudo import Room
from paw_mlx.compiler.writer import SpecWriter, split_examples, write_pseudo_program

ROOM = Room(len, 300)
PAIRS = "Input: the disk is full\nOutput: ALERT\nInput: picnic\nOutput: QUIET"


@pytest.mark.parametrize(
    ("spec", "task", "shown"),
    [
        ("Say yes.", "Say yes.", []),
        (
            f"Triage.\n\n{PAIRS}",
            "Triage.",
            [("the disk is full", "ALERT"), ("picnic", "QUIET")],
        ),
        (
            "Triage.\nInput: a\nOutput: b\n\n\nReturn ONLY one of: b, c",
            "Triage.\nReturn ONLY one of: b, c",
            [("a", "b")],
        ),
        ("Triage.\nInput:\nOutput: b", "Triage.", [("", "b")]),
        ("Triage.\nInput:  a \nOutput: b \nInput: c", "Triage.\nInput: c", [("a", "b")]),
        ("Triage: the Input: a\nOutput: b", "Triage: the Input: a\nOutput: b", []),
        ("Triage.\nInput: a\nb\nOutput: c", "Triage.\nInput: a\nb\nOutput: c", []),
        (PAIRS, PAIRS, []),  # a task has to say something
        (f"\n{PAIRS}\n", PAIRS, []),
    ],
)
def test_pairs_are_parted_from_what_else_a_spec_says(spec, task, shown):
    assert split_examples(spec) == (task, shown)


def test_a_spec_s_own_pairs_come_first_and_further_ones_after():
    found = write_pseudo_program("Triage.\nInput: a\nOutput: b", [("c", "d")])
    assert found == (
        "[PSEUDO_PROGRAM]\nTask: Triage.\n\nExamples:\n"
        "Input: a\nOutput: b\nInput: c\nOutput: d\n[END_PSEUDO_PROGRAM]"
    )
    assert (
        write_pseudo_program("Triage.") == "[PSEUDO_PROGRAM]\nTask: Triage.\n[END_PSEUDO_PROGRAM]"
    )


def test_it_takes_any_spec_that_has_room():
    writer = SpecWriter()
    for spec in ("Triage.", "Examples: none", "Say [END_PSEUDO_PROGRAM] or <|im_end|>"):
        assert writer.write(spec, ROOM) == write_pseudo_program(spec)
    with pytest.raises(CompileError, match="takes 543 tokens, and 300 fit"):
        writer.write("word " * 100, ROOM)
    writer.close()
    assert writer.write("Again.", ROOM)
