"""`paw_mlx.function`: the first thing a user types."""

from __future__ import annotations

import asyncio
import enum
import gc
import json
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import tiny

import paw_mlx as paw
from paw_mlx import formats
from paw_mlx.interpreter.engine.prefixes import prefix_key


@pytest.fixture
def base(tmp_path):
    return str(tiny.write_base(tmp_path / "base", "qwen3"))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "triage.paw"
    formats.save(tiny.program("qwen3"), path, dtype="f32", profile=tiny.profile("qwen3"))
    return path


def test_a_path_becomes_a_function_of_text(base, path):
    fn = paw.function(path, interpreter=base)
    result = fn.run("the disk is full", max_tokens=8)
    assert fn("the disk is full", max_tokens=8) == result.text
    assert "".join(fn.stream("the disk is full", max_tokens=8)) == result.text
    assert result.output_tokens <= 8
    assert result.tok_s >= 0


def test_functions_on_one_base_share_it_until_the_last_is_gone(base, path):
    first, second = (paw.function(str(path), interpreter=base) for _ in range(2))
    packed = paw.function(path, interpreter=base, bits=4, group_size=32)
    assert first.runner is second.runner
    assert packed.runner is not first.runner
    first.runner.close()
    third = paw.function(path, interpreter=base)
    assert third.runner is not second.runner
    assert third("picnic", max_tokens=4) is not None
    with pytest.raises(paw.ClosedError):
        second("picnic")
    from paw_mlx.interpreter.shared import _interpreters

    held = len(_interpreters)
    del first, second, third, packed
    gc.collect()
    assert len(_interpreters) < held


def test_what_is_not_there_is_named(base, path, tmp_path):
    with pytest.raises(paw.NotFound, match="nothing"):
        paw.function(tmp_path / "nothing.paw", interpreter=base)
    with pytest.raises(paw.NotFound, match="nowhere"):
        paw.function(path, interpreter=str(tmp_path / "nowhere"), offline=True)
    with pytest.raises(paw.OfflineError, match="qwen3"):
        paw.function(tiny.program("llama"), interpreter="qwen3-0.6b", offline=True)


def test_the_public_names_are_all_there_and_no_more():
    assert len(set(paw.__all__)) == len(paw.__all__) > 20
    for name in paw.__all__:
        assert getattr(paw, name).__name__.removeprefix("paw_mlx.") == name
    with pytest.raises(AttributeError, match=r"attribute .*generate"):
        paw.generate  # noqa: B018


def test_a_device_that_is_none_is_refused(monkeypatch):
    from paw_mlx import settings

    monkeypatch.setenv("PAW_MLX_DEVICE", "tpu")
    with pytest.raises(paw.OptionError, match="'tpu', and can be cpu or gpu"):
        settings.device()


AB = ["down", "full", "the disk", "the server"]


class Where(enum.Enum):
    DOWN = "down"
    FULL = "full"


@dataclass
class Seen:
    what: Where
    times: list[int]


def test_labels_are_values_everywhere(base, path):
    fn = paw.function(path, interpreter=base, labels=Where)
    result, decision = fn.run("the disk is full"), fn.decide("the disk is full")
    assert isinstance(result.value, Where)
    assert result.text == result.decision.label == result.value.value
    assert fn("the disk is full") is result.value is decision.value
    assert decision.probabilities == pytest.approx(dict(result.decision.probabilities), abs=1e-5)
    assert asyncio.run(fn.arun("the disk is full")).value is result.value
    assert fn.submit("the disk is full").result().value is result.value
    pieces = fn.stream("the disk is full")
    assert "".join(pieces) == result.text
    assert pieces.result.value is result.value
    texts = ["the disk is full", "picnic", "the server is down", "picnic"]
    assert list(fn.map(texts)) == [fn(text) for text in texts]


def test_json_is_values_everywhere_and_a_cut_one_is_its_rows_error(base, path):
    fn = paw.function(path, interpreter=base, schema=Seen)
    short = paw.function(path, interpreter=base, schema=Literal[1, 2] | None)
    assert short("picnic") in (1, 2, None)
    assert asyncio.run(short.arun("picnic")).value == short("picnic")
    assert json.loads("".join(short.stream("picnic"))) == short("picnic")
    cut, odd = fn.map(["picnic", None], max_tokens=4, on_error="return")
    assert isinstance(cut, paw.OutputError)
    assert isinstance(odd, paw.OptionError)
    assert cut.__traceback__ is None
    with pytest.raises(paw.OutputError, match="4 tokens"):
        fn("picnic", max_tokens=4)
    with pytest.raises(paw.OutputError, match="4 tokens"):
        list(fn.map(["picnic"], max_tokens=4))


def test_what_a_types_own_class_refuses_is_its_rows_error(base, path):
    @dataclass
    class Never:
        of: Literal[1]

        def __post_init__(self):
            raise ValueError("never")

    fn = paw.function(path, interpreter=base, schema=Never)
    (got,) = fn.map(["picnic"], on_error="return")
    assert isinstance(got, paw.OutputError)
    assert str(got) == "the output is no Never: never"
    assert fn.run("picnic").text == '{"of": 1}'


def test_functions_of_other_types_share_base_and_evaluated_prefix(base, path):
    program = formats.load(path)
    text = paw.function(program, interpreter=base)
    labels = paw.function(program, interpreter=base, labels=AB)
    regex = paw.function(program, interpreter=base, regex="[ab]{3}")
    assert text.runner is labels.runner is regex.runner
    assert text.program is program
    assert labels("picnic") in AB
    assert set(regex("picnic")) <= {"a", "b"}
    assert text("picnic", max_tokens=4) == paw.function(path, interpreter=base)(
        "picnic", max_tokens=4
    )
    keys = {prefix_key(fn.runner.base, fn.program, [1, 2]) for fn in (text, labels, regex)}
    assert len(keys) == 1
    assert text.runner.function(program, labels=AB, threshold=0.5).program.output == paw.Labels(
        tuple(AB), threshold=0.5
    )


def test_a_threshold_holds_whatever_options_a_call_has(base, path):
    fn = paw.function(path, interpreter=base, labels=AB, threshold=1.0, otherwise="?")
    assert fn("picnic") == "?"
    assert fn.run("picnic", paw.Options(max_tokens=9)).text == "?"
    assert list(fn.map(["picnic"], paw.Options())) == ["?"]
    assert fn("picnic", threshold=0) == fn.decide("picnic").label
    assert fn("picnic", otherwise="full") == "full"
    silent = paw.function(path, interpreter=base, labels=AB, threshold=1.0)
    assert silent("picnic") is None
    assert silent.run("picnic").text == ""
    assert silent.decide("picnic").abstained


def test_a_program_keeps_its_type_and_what_was_calibrated(base, tmp_path):
    own = paw.Labels(tuple(AB), temperature=2.5, threshold=0.3, otherwise="?")
    typed = tiny.program("qwen3").typed(own)
    formats.save(typed, tmp_path / "p.paw", dtype="f32", profile=tiny.profile("qwen3"))
    fn = paw.function(tmp_path / "p.paw", interpreter=base)
    assert fn.program.output == own
    same = paw.function(tmp_path / "p.paw", interpreter=base, labels=AB[::-1])
    assert same.program.output == replace(own, labels=tuple(AB[::-1]))
    kept, bare = (
        each.decide("picnic")
        for each in (
            same,
            paw.function(typed.typed(paw.Labels(tuple(AB), threshold=0.0)), interpreter=base),
        )
    )
    flat = {label: share ** (1 / 2.5) for label, share in bare.probabilities.items()}
    wanted = {label: share / sum(flat.values()) for label, share in flat.items()}
    assert dict(kept.probabilities) == pytest.approx(wanted, abs=1e-4)


def test_a_ranking_is_by_the_expected_place_and_keeps_ties_in_order(base, path):
    fn = paw.function(path, interpreter=base, labels=AB)
    texts = [f"the disk is {n} full" for n in range(12)] + ["the disk is 3 full", "picnic"]
    ranked = fn.rank(iter(texts))
    assert [ranked[i].text for i in range(14)] == [texts[each.index] for each in ranked]
    assert sorted(each.index for each in ranked) == [*range(14)]
    for each in ranked:
        shares = fn.decide(each.text).probabilities
        place = sum(shares[label] * number for number, label in enumerate(AB))
        assert each.score == pytest.approx(1 - place / 3, abs=1e-4)
        assert each.value == fn(each.text)
    scores = [each.score for each in ranked]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    places = [each.index for each in ranked]
    assert places.index(12) == places.index(3) + 1
    assert fn.rank(texts, top=5) == ranked[:5]
    assert fn.rank(texts, top=99) == ranked
    assert fn.rank([]) == []
    turned = paw.function(path, interpreter=base, labels=AB[::-1]).rank(["picnic"])
    assert turned[0].score == pytest.approx(1 - fn.rank(["picnic"])[0].score, abs=1e-4)
    for top in (0, -1):
        with pytest.raises(paw.OptionError, match=f"at least 1, not {top}"):
            fn.rank(texts, top=top)
    with pytest.raises(paw.OptionError, match="this is one"):
        fn.rank("picnic")
    with pytest.raises(paw.OptionError, match="an input is text"):
        fn.rank(["picnic", None])


def test_only_labels_are_decided_and_ranked(base, path):
    for more in ({}, {"regex": "a+"}):
        fn = paw.function(path, interpreter=base, **more)
        for call in (lambda fn=fn: fn.decide("picnic"), lambda fn=fn: fn.rank(["picnic"])):
            with pytest.raises(paw.OptionError, match="not one of some labels") as caught:
                call()
            assert "labels=" in caught.value.hints[0]
        with pytest.raises(paw.OptionError, match="a threshold is for labels"):
            fn("picnic", threshold=0.5)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"labels": ["a", "a"]}, "is there twice"),
        ({"labels": ["a"]}, "labels are 2 to"),
        ({"labels": ["a", "b"], "regex": "a"}, "of one type, not of 2"),
        ({"regex": "("}, "cannot be an output's type"),
        ({"schema": {"type": "array", "uniqueItems": True}}, "cannot be an output's type"),
        ({"schema": bytes}, "of the type bytes"),
        ({"threshold": 0.5}, "threshold would be of labels"),
        ({"labels": ["a", "b"], "threshold": 2}, "a probability from 0 to 1, not 2"),
        ({"labels": ["a", "b"], "otherwise": 1}, "said otherwise is text"),
    ],
)
def test_a_type_that_cannot_be_is_refused_before_a_base_is_looked_for(path, more, said):
    with pytest.raises(paw.OptionError) as caught:
        paw.function(path, interpreter="nowhere/at-all", offline=True, **more)
    assert said in str(caught.value)
