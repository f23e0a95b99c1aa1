"""What a chat model says under a constraint: of its type, whatever it would say otherwise."""

from __future__ import annotations

import json
import re

import pytest
from chat_models import random_model

from paw_mlx import Labels, Regex, Schema
from paw_mlx.compiler.chat import ChatModel
from paw_mlx.compiler.constrained import Constraints, OneOf
from paw_mlx.output import TEXT

ASKED = [{"role": "user", "content": "is the disk full?"}]
SCHEMA = Schema.of(
    {
        "type": "object",
        "properties": {"full": {"type": "boolean"}, "disk": {"enum": ["a", "b"]}},
        "required": ["full", "disk"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("chat") / "model")


@pytest.fixture(scope="module")
def model(path):
    return ChatModel(path)


def answers(model, path, output, num=20):
    constraints = Constraints(output, path, model.ends)
    return [
        model.answer(
            ASKED,
            60,
            lambda text: False,
            temperature=2.0,
            seed=seed,
            constraint=constraints.start(),
        )
        for seed in range(num)
    ]


def test_answers_are_of_their_type_and_vary(model, path):
    labels = Labels(("the disk", "the disk is full", "the server", "Friday", "the"))
    said = set(answers(model, path, labels, 40))
    assert said <= set(labels.labels)
    assert len(said) > 2
    for answer in answers(model, path, SCHEMA):
        assert json.loads(answer).keys() == {"full", "disk"}
    assert all(
        re.fullmatch(r"[ab]{2}\d", text) for text in answers(model, path, Regex(r"[ab]{2}\d"))
    )


def test_without_a_type_and_at_no_temperature_nothing_changes(model, path):
    assert Constraints(TEXT, path, model.ends).start() is None
    plain = model.answer(ASKED, 20, lambda text: False)
    for seed in (1, 2):
        assert model.answer(ASKED, 20, lambda text: False, seed=seed) == plain
    sampled = {
        model.answer(ASKED, 20, lambda text: False, temperature=1.0, seed=seed) for seed in (1, 2)
    }
    assert len(sampled) == 2


def test_one_of_some_texts_is_told_token_by_token():
    texts = [(1, 2, 9), (1, 3, 9), (1, 3, 4, 9)]
    one = OneOf(texts)
    assert one.forced(5) == [1]
    allowed = one.allowed([1, 3])
    assert [[*row.nonzero()[0]] for row in allowed] == [[1], [2, 3], [4, 9]]
    one.push([1, 3])
    assert [*one.allowed([])[0].nonzero()[0]] == [4, 9]
    one.push([4])
    assert one.forced(5) == [9]
