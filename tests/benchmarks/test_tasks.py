"""What accuracy is measured on: files read, rows set apart, specs made noisy."""

from __future__ import annotations

import json
import re

import pytest
from fuzzy_rows import LABEL, RECORD, ROWS, TEXT, write_csv, write_jsonl

from paw_mlx import FormatError, NotFound, OptionError, settings
from paw_mlx.benchmarks.accuracy import noise, tasks
from paw_mlx.benchmarks.accuracy.tasks import Example

BGL = """- 1117 2005.06.03 R02 RAS KERNEL INFO cache parity error corrected
APPREAD 1118 2005.06.03 R03 RAS APP FATAL failed to read message prefix
- 1119 2005.06.03 R04 RAS KERNEL INFO 141 alignment exceptions
KERNDTLB 1120 2005.06.03 R05 RAS KERNEL FATAL data TLB error interrupt
- 1121 2005.06.03 R06 RAS KERNEL INFO generating core.2275
- 1122 2005.06.03 R07 RAS KERNEL INFO generating core.862
- 1122 2005.06.03 R07 RAS KERNEL INFO generating core.862
"""


@pytest.fixture
def rows(tmp_path):
    return write_jsonl(tmp_path / "rows.jsonl")


def test_a_file_becomes_functions_by_their_spec(rows):
    found = tasks.load(str(rows))
    assert [(t.spec, t.kind, len(t.test), len(t.train)) for t in found] == [
        (LABEL, "closed label", 6, 0),
        (RECORD, "JSON", 4, 0),
        (TEXT, "free text", 4, 0),
    ]
    assert found[0].outputs == ["no", "yes"]
    assert found[0].test[0] == Example("the server is down", "yes", None)
    assert found[0].name.startswith("Is it urgent? Return ONLY one (")


def test_the_corpus_kept_for_tests_comes_along_and_learns_from_a_file(tmp_path):
    found = tasks.load("functions")
    assert len(found) == len({task.test[0].category for task in found}) == 60
    assert {len(task.test) for task in found} == {12}
    row = {"spec": found[0].spec, "input": "not among the tests", "output": found[0].outputs[0]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    learned = tasks.load("functions", train=tmp_path / "train.jsonl")
    assert [len(task.train) for task in learned] == [1, *[0] * 59]


def test_csv_and_parquet_give_the_same_functions(rows, tmp_path):
    wanted = tasks.load(str(rows))
    assert tasks.load(str(write_csv(tmp_path / "rows.csv"))) == wanted
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = dict(
        zip(("spec", "input", "output"), map(list, zip(*ROWS, strict=True)), strict=True)
    )
    table = pyarrow.table(columns | {"id": list(range(len(ROWS)))})
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert tasks.load(str(tmp_path / "rows.parquet")) == wanted


def test_a_category_is_read_where_there_is_one(tmp_path):
    found = tasks.load(str(write_csv(tmp_path / "rows.csv", category=True)))
    assert {row.category for task in found for row in task.test} == {"c0", "c1"}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("rows.jsonl", '{"spec": "a", "input": "b"}', "line 1: a row needs the texts spec, input"),
        ("rows.jsonl", '{"spec": "a", "input": 1, "output": "x"}', "line 1: a row needs the texts"),
        ("rows.jsonl", "[]", "line 1: a row needs"),
        ("rows.jsonl", "{", "line 1: no valid JSON"),
        ("rows.csv", "spec,input\na,b\n", "line 2: a row needs"),
        ("rows.log", "- a\nALERT", "line 2: there is nothing after its truth, 'ALERT'"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, name, text, problem):
    (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=re.escape(problem)):
        tasks.load(str(tmp_path / name))


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_file_without_rows_is_refused(tmp_path, name):
    for text in ("", "spec,input,output\n") if name.endswith("csv") else ("", "\n"):
        (tmp_path / name).write_text(text)
        with pytest.raises(FormatError, match=rf"{name} holds no rows"):
            tasks.load(str(tmp_path / name))


def test_a_parquet_without_rows_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {name: pyarrow.array([], pyarrow.string()) for name in ("spec", "input", "output")}
    parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    with pytest.raises(FormatError, match=r"rows\.parquet holds no rows"):
        tasks.load(str(tmp_path / "rows.parquet"))


def test_what_is_no_parquet_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "rows.parquet").write_text("spec")
    with pytest.raises(FormatError, match="as parquet"):
        tasks.load(str(tmp_path / "rows.parquet"))


def test_what_cannot_be_found_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("PAW_MLX_EVAL_DATA", raising=False)
    with pytest.raises(NotFound, match="PAW_MLX_EVAL_DATA is not set"):
        tasks.load("bgl")
    monkeypatch.setenv("PAW_MLX_EVAL_DATA", str(tmp_path))
    assert settings.eval_data() == tmp_path
    for absent in ("bgl", "~nosuchuser/rows.csv"):
        with pytest.raises(NotFound, match="no such file"):
            tasks.load(absent)
    with pytest.raises(OptionError, match="no 'train'"):
        tasks.load("fuzzybench/train")
    monkeypatch.setenv("PAW_OFFLINE", "1")
    with pytest.raises(NotFound, match="offline"):
        tasks.load("fuzzybench")
    monkeypatch.delenv("PAW_OFFLINE")
    monkeypatch.setattr(tasks.client, "download_file", None)
    with pytest.raises(NotFound, match="offline"):
        tasks.load("fuzzybench/test_clean", offline=True)
    (tmp_path / "rows.txt").write_text("x")
    with pytest.raises(OptionError, match=r"none of \.parquet"):
        tasks.load(str(tmp_path / "rows.txt"))


def test_a_log_is_halved_and_its_truth_is_not_shown(tmp_path, monkeypatch):
    (tmp_path / "loghub").mkdir()
    (tmp_path / "loghub" / "bgl_dev.log").write_text(BGL)
    monkeypatch.setenv("PAW_MLX_EVAL_DATA", str(tmp_path))
    (task,) = tasks.load("bgl", seed=3)
    assert (task.kind, task.outputs) == ("closed label", ["ALERT", "QUIET"])
    texts = [row.input for row in (*task.test, *task.train)]
    assert len(texts) == len(set(texts)) == 6  # the line that repeats is there once
    assert sorted(texts) == sorted({line.split(" ", 1)[1] for line in BGL.splitlines()})
    for seed in range(9):
        for half in (tasks.load("bgl", seed=seed)[0].test, tasks.load("bgl", seed=seed)[0].train):
            assert sorted(row.output for row in half) == ["ALERT", "QUIET", "QUIET"]
    assert {row.output for row in task.test if "FATAL" in row.input} == {"ALERT"}
    assert tasks.load("bgl", seed=3) == [task]
    assert any(tasks.load("bgl", seed=other) != [task] for other in range(5))


def test_intents_are_read_and_labels_are_named(tmp_path):
    for part, rows in (
        ("train", [("play it", "music"), ("set an alarm", "timer"), ("say it again", "music")]),
        ("test", [("play it ", "music"), ("wake me", "timer")]),
    ):
        lines = [json.dumps({"input": i, "output": o}) for i, o in rows]
        (tmp_path / f"intents_{part}.jsonl").write_text("\n".join(lines))
    (task,) = tasks.load(str(tmp_path))
    assert task.spec.endswith("Return ONLY one of: music, timer")
    assert len(task.test) == 2
    assert [row.input for row in task.train] == ["set an alarm", "say it again"]  # not the tested
    with pytest.raises(OptionError, match="takes no others"):
        tasks.load(str(tmp_path), train=tmp_path / "x.jsonl")


def test_rows_to_learn_from_are_never_tested(rows, tmp_path):
    more = [(LABEL, "the server is down ", "yes"), (LABEL, "new", "no"), ("else", "x", "y")]
    label, record, _ = tasks.load(str(rows), train=write_jsonl(tmp_path / "more.jsonl", more))
    assert label.train == (Example("new", "no"),)
    assert record.train == ()
    for seed in range(3):
        for task in tasks.load(str(rows), halve=True, seed=seed):
            inputs = [{row.input for row in part} for part in (task.test, task.train)]
            assert not inputs[0] & inputs[1]
            assert len(inputs[1]) == (len(inputs[0]) + len(inputs[1])) // 2 >= 2


def test_only_functions_without_rows_to_learn_from_are_halved(rows, tmp_path):
    found = tasks.load(str(rows), train=write_jsonl(tmp_path / "more.jsonl", [(LABEL, "x", "no")]))
    label, record, _ = tasks.halved(found, 0)
    assert label == found[0]
    assert len(record.train) == 2


def test_a_source_is_named_without_its_folders():
    names = ("fuzzybench", "fuzzybench/test_clean", "bgl", "/home/me/rows.jsonl", "data/clinc/")
    assert [tasks.source(name) for name in names] == [
        *("fuzzybench", "fuzzybench/test_clean", "bgl", "rows.jsonl", "clinc")
    ]


def test_the_first_row_of_an_input_counts(tmp_path):
    rows = [(LABEL, "down", "yes"), (LABEL, "down ", "no"), (TEXT, "down", "x")]
    found = tasks.load(str(write_jsonl(tmp_path / "rows.jsonl", rows)))
    assert [task.test for task in found] == [(Example("down", "yes"),), (Example("down", "x"),)]


def test_sampling_repeats_and_keeps_the_order(rows):
    found = tasks.load(str(rows), halve=True)
    drawn = tasks.sample(found, 2, 1, seed=1)
    assert drawn == tasks.sample(found, 2, 1, seed=1)
    assert [len(task.test) for task in drawn] == [1, 1]
    assert [task.train for task in drawn] == [
        t.train for t in found if t.spec in {d.spec for d in drawn}
    ]
    assert tasks.sample(found, None, None, seed=1) == list(found)
    assert len({tuple(t.spec for t in tasks.sample(found, 1, None, s)) for s in range(9)}) > 1
    with pytest.raises(OptionError, match="at least 1"):
        tasks.sample(found, 0, None, 0)


def test_shots_are_so_many_of_each_label_and_fewer_are_among_more():
    rows = [Example(str(i), "yes" if i % 3 else "no") for i in range(30)]
    task = tasks.Task("spec", "closed label", (), tuple(rows))
    two, five, every = (tasks.shots(task, num, 0) for num in (2, 5, None))
    assert sorted(row.output for row in two) == ["no"] * 2 + ["yes"] * 2
    assert set(two) < set(five) < set(every) == set(rows)
    assert sorted(row.output for row in tasks.shots(task, 15, 0)) == ["no"] * 10 + ["yes"] * 15
    free = tasks.Task("spec", "free text", (), tuple(rows))
    assert len(tasks.shots(free, 5, 0)) == 5
    assert tasks.shots(task, 5, 1) != five


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [
        (["1", "2", "1", "2"], "closed label"),  # they repeat
        (["red", "blue"], "closed label"),  # the spec names them
        (["red", "mauve"], "free text"),
        (["a b c d e", "a b c d e"], "free text"),  # too long
        (["a\nb", "a\nb"], "free text"),
        (["", ""], "free text"),
        (["[1]", "{}", "[]"], "JSON"),
        (["[1]", "{}", "nothing"], "free text"),
    ],
)
def test_kinds_are_told_by_their_looks(outputs, kind):
    assert tasks.kind_of("Is it red or blue?", outputs) == kind


SPEC = (
    "Classify the message of a customer. Return ONLY one of: refund, delivery, OTHER. "
    "For example, the input \"where is my parcel\" gives 'delivery'; write it into {field_name} "
    "and ignore whatever does not matter. There should be `code_like_this` and snake_case too."
)
KEPT = ['"where is my parcel"', "'delivery'", "{field_name}", "OTHER", "`code_like_this`"]


@pytest.mark.parametrize("kind", noise.KINDS)
def test_noise_repeats_changes_the_words_and_keeps_what_is_quoted(kind):
    keep = ["refund", "delivery", "OTHER"]
    for seed in range(200):
        changed = noise.noisy(SPEC, kind, seed, keep)
        assert changed == noise.noisy(SPEC, kind, seed, keep) != SPEC
        assert all(part in changed for part in [*KEPT, "snake_case"])
        assert re.search(r"one of: refund, delivery, OTHER", changed)
    assert len({noise.noisy(SPEC, kind, seed, keep) for seed in range(20)}) > 3


def test_typos_are_slips_in_a_tenth_of_the_words():
    for seed in range(50):
        changed = noise.typos(SPEC, seed).split()
        pairs = [(a, b) for a, b in zip(SPEC.split(), changed, strict=True) if a != b]
        assert len(pairs) == round(noise.SHARE * len(changed))
        for before, after in pairs:
            assert before[0] == after[0]
            assert abs(len(before) - len(after)) <= 1
            assert len(before.strip(".,:;")) >= 4
    assert noise.typos("a b OTHER", 0) == "a b OTHER"  # nothing that may be misspelt
    assert noise.typos("sssss", 0) in ("ssss", "ssssss")


def test_a_paraphrase_says_it_in_other_words():
    text = noise.paraphrase(SPEC, 0)
    assert "Categorize the message" in text
    assert "Answer with exactly one of: refund" in text
    assert "For instance, the input" in text
    assert "disregard whatever doesn't matter" in text
    quoted = noise.paraphrase('Return "ignore" when told to ignore.', 0)
    assert 'Give back "ignore" whenever told to disregard.' in quoted
    assert "{}" in noise.paraphrase("Return {} now", 0)


def test_labels_are_kept_only_where_they_are_named():
    spec = "Classify it. Return weather or calendar or whatever fits the message best, please."
    changed = {
        noise.typos(spec, seed, share=1.0, keep=["weather", "calendar"]) for seed in range(50)
    }
    assert all("weather or calendar or" in text for text in changed)
    assert not any("whatever" in text.split() for text in changed)
    assert any("weather" not in noise.typos(spec, seed, share=1.0) for seed in range(50))
