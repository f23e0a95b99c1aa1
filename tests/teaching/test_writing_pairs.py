"""A teacher writes pairs: rounds of questions, what is kept of the answers, how it ends."""

from __future__ import annotations

import json
import re

import pytest
from hub_server import send
from teacher_server import SPEC, right

from paw_mlx import Labels, Regex
from paw_mlx.cases import read_cases
from paw_mlx.errors import FormatError, HubError, OptionError
from paw_mlx.output import TEXT
from paw_mlx.teaching import endpoint
from paw_mlx.teaching import sieve as why
from paw_mlx.teaching.endpoint import Endpoint
from paw_mlx.teaching.function import Function
from paw_mlx.teaching.pairs import make_pairs
from paw_mlx.teaching.writing import IDLE_ROUNDS

FOOD = Function(SPEC, Labels(("yes", "no")))


@pytest.fixture
def write(teacher, tmp_path):
    """Write pairs to one file, by a new teacher of the same address each time."""

    def run(num, function=FOOD, seed=0, **options):
        path = tmp_path / "pairs.jsonl"
        return make_pairs(function, Endpoint(teacher.url, None), path, num, seed=seed, **options)

    return run


def asked(teacher, what):
    return [question for question in teacher.questions if what in question]


def test_pairs_are_new_right_and_of_balanced_labels(teacher, write, tmp_path):
    done = write(60)
    pairs = read_cases(tmp_path / "pairs.jsonl")
    assert (done.kept, done.stopped, len(pairs)) == (60, None, 60)
    assert len({pair.input for pair in pairs}) == 60
    assert all(pair.output == right(pair.input) for pair in pairs)
    assert done.by_label == {
        label: sum(p.output == label for p in pairs) for label in ("yes", "no")
    }
    assert min(done.by_label.values()) >= 20
    assert 0 <= len(teacher.log) - done.questions <= endpoint.PARALLEL  # some were on their way


def test_questions_vary_by_their_facets_and_a_seed_repeats_them(teacher, write, tmp_path):
    write(60)
    first = asked(teacher, "Write ")
    for facet in ("Topic", "Length of an input", "Tone", "Writing", "Inputs", "Output"):
        found = {re.search(f"- {facet}: (.*)", question)[1] for question in first}
        assert len(found) >= (2 if facet == "Output" else 3), facet
    assert "- Topic: topic " in first[0]  # the teacher's own
    assert all(SPEC in question for question in teacher.questions)
    before = (tmp_path / "pairs.jsonl").read_bytes()
    for seed, same in ((0, True), (1, False)):
        for file in tmp_path.iterdir():
            file.unlink()
        write(60, seed=seed)
        assert ((tmp_path / "pairs.jsonl").read_bytes() == before) is same


def test_each_output_is_asked_for_again_by_itself_and_has_to_agree(teacher, write, tmp_path):
    def wrong_first(question, answer):
        return answer.replace('"no"', '"yes"') if "every one of them" in question else answer

    teacher.spoil = wrong_first
    done = write(20)
    assert done.dropped[why.DISAGREEMENT] > 0
    assert all(right(pair.input) == "yes" for pair in read_cases(tmp_path / "pairs.jsonl"))
    assert done.by_label == {"yes": 15, "no": 0}  # a label has no more than half above its share
    assert done.stopped


def test_a_bad_answer_costs_itself_alone(teacher, write):
    spoiled = iter(
        ["I would rather not.", '[{"input": "cut', '[{"input": "a", "output": "b"}]', ""]
    )

    def spoil(question, answer):
        return next(spoiled, answer) if "Write " in question else answer

    teacher.spoil = spoil
    done = write(20)
    assert done.kept == 20
    assert done.dropped[why.NO_ANSWER] == 2
    assert done.dropped[why.MALFORMED] == 1
    assert done.dropped[why.WRONG_TYPE] == 1


def test_it_gives_up_where_nothing_new_comes_and_keeps_what_it_has(teacher, write, tmp_path):
    one = json.dumps([{"input": "soup at noon", "output": "yes"}])
    teacher.spoil = lambda question, answer: one if "Write " in question else answer
    done = write(10)
    assert (done.kept, done.wanted) == (1, 10)
    assert done.stopped == f"{IDLE_ROUNDS} rounds of questions gave nothing new"
    assert len(asked(teacher, "Write ")) == 4 * (1 + IDLE_ROUNDS)
    teacher.spoil = lambda question, answer: answer
    done = write(10)  # the same again: it tries again
    assert (done.kept, done.found, done.stopped) == (10, 1, None)


def test_a_time_is_kept(write):
    done = write(1000, deadline_s=0.0)
    assert 0 < done.kept < 1000
    assert done.stopped == "0 s were over"
    assert write(done.kept + 1, deadline_s=0.0).stopped is None  # it is over, and there are enough


def test_more_are_written_to_those_that_are_there(write, tmp_path):
    questions = write(20).questions
    before = (tmp_path / "pairs.jsonl").read_bytes()
    again = write(20)
    assert (again.kept, again.questions) == (20, questions)  # nobody was asked
    done = write(30)
    assert (done.kept, done.found) == (30, 20)
    assert (tmp_path / "pairs.jsonl").read_bytes().startswith(before)


def test_what_fails_midway_is_gone_on_with(teacher, write, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint, "TRIES", 1)

    def fail(question, answer):
        if len(teacher.log) == 30:
            teacher.before = [lambda handler: send(handler, 500)] * 9
        return answer

    teacher.spoil = fail
    with pytest.raises(HubError, match="1 tries; at last 500"):
        write(40)
    teacher.before, teacher.spoil = [], lambda question, answer: answer
    kept = (tmp_path / "pairs.jsonl").read_bytes()
    assert kept
    done = write(40)
    assert done.found == kept.count(b"\n")
    ended = (tmp_path / "pairs.jsonl").read_bytes()
    for file in tmp_path.iterdir():
        file.unlink()
    assert write(40).dropped == done.dropped  # what was kept before is no duplicate
    assert (tmp_path / "pairs.jsonl").read_bytes() == ended


def test_a_line_that_was_cut_is_written_anew(write, tmp_path):
    write(20)
    file = tmp_path / "pairs.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"input": "hal')
    assert write(20).kept == 20
    assert file.read_bytes() == whole


def test_a_file_belongs_to_one_function_and_one_writer(teacher, write, tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"input": "mine", "output": "yes"}\n')
    with pytest.raises(OptionError, match="no teaching wrote it"):
        write(20)
    assert file.read_text().count("mine") == 1
    file.unlink()
    write(8)
    with pytest.raises(OptionError, match="seed was 0, not 1"):
        write(8, seed=1)
    file.write_bytes(b"")
    with pytest.raises(FormatError, match="holds 0 pairs, and 8 were written"):
        write(8)
    file.unlink()
    (tmp_path / "pairs.jsonl.state.json").unlink()
    busy = []

    def once_more(so_far):
        if not busy:
            busy.append(so_far)
            with pytest.raises(OptionError, match="another process is writing"):
                write(8)

    write(8, report=once_more)
    assert busy


def test_a_file_of_pairs_goes_through_the_same_sieve(tmp_path):
    rows = [
        {"input": "soup at noon", "output": "yes"},
        {"input": "Soup at noon.", "output": "YES"},
        {"input": "chess at noon", "output": "no", "group": 3},
        {"input": "bread or not", "output": "yes"},
        {"input": "bread or not", "output": "no"},
        {"input": "a pie", "output": "perhaps"},
        {"input": 7, "output": "no"},
    ]
    source, path = tmp_path / "given.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join([*map(json.dumps, rows), "", "no json"]))
    done = make_pairs(FOOD, source, path)
    assert [(p.input, p.output) for p in read_cases(path)] == [
        ("soup at noon", "yes"),
        ("chess at noon", "no"),
    ]
    assert done.dropped == {
        why.MALFORMED: 2,
        why.CONTRADICTION: 2,
        why.DUPLICATE: 1,
        why.WRONG_TYPE: 1,
    }
    assert make_pairs(FOOD, source, path).found == 2
    assert make_pairs(FOOD, source, path, 5).stopped == f"{source} holds no more"


@pytest.mark.parametrize("output", [TEXT, Regex("yes|no")])
def test_other_types_are_asked_for_and_checked(teacher, write, output):
    teacher.spoil = lambda question, answer: (
        json.dumps(
            [{"input": f"{len(teacher.log)} soups", "output": "yes"}, {"input": "x", "output": "~"}]
        )
        if "Write " in question
        else answer
    )
    done = write(5, Function(SPEC, output))
    assert done.kept == 5
    assert done.by_label is None
    assert ("regular expression" in teacher.questions[0]) is (output != TEXT)
    assert done.dropped[why.WRONG_TYPE if output != TEXT else why.DISAGREEMENT] > 0
