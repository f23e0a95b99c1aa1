"""A local chat model as a teacher: a random one says nonsense, but of the right form."""

from __future__ import annotations

import json

import pytest
from chat_models import random_model
from teacher_server import SPEC

from paw_mlx import Labels
from paw_mlx.cases import read_cases
from paw_mlx.compiler import constrained
from paw_mlx.errors import OptionError
from paw_mlx.teaching import questions
from paw_mlx.teaching.function import Function
from paw_mlx.teaching.pairs import make_pairs
from paw_mlx.teaching.questions import Questioner
from paw_mlx.teaching.teacher import ChatTeacher, find_teacher

LABELS = Labels(("yes", "no"))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "_MAX_CHARS", 8)
    monkeypatch.setattr(questions, "MAX_TOPICS", 3)
    return random_model(tmp_path / "model")


def test_even_a_random_model_writes_pairs_and_a_seed_repeats_them(path, tmp_path):
    files = [tmp_path / f"{n}.jsonl" for n in range(2)]
    for file in files:
        teacher = find_teacher(str(path), offline=True)
        done = make_pairs(Function(SPEC, LABELS), teacher, file, 4)
        assert done.dropped["malformed"] == done.dropped["no usable answer"] == 0
    assert done.kept > 0
    assert {case.output for case in read_cases(files[0])} <= {"yes", "no"}
    assert files[0].read_bytes() == files[1].read_bytes()


def test_without_a_grammar_it_says_what_it_likes(path, monkeypatch):
    asked = [Questioner(SPEC, LABELS, 0).pairs(0, [], "no", 2)]
    (answer,) = ChatTeacher(path).ask(asked)
    assert [each["output"] for each in json.loads(answer)] == ["no", "no"]

    def missing(*arguments):
        raise OptionError("needs llguidance, which is not installed")

    monkeypatch.setattr(constrained, "make_vocabulary", missing)
    (answer,) = ChatTeacher(path).ask(asked)
    assert isinstance(answer, str)
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(answer)
