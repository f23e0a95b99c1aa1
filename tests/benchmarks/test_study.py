"""Accuracy: groups, scores, every answer kept, going on later."""

from __future__ import annotations

import errno
import json

import pytest
import tiny
from fuzzy_rows import LABEL, write_csv
from studies import ask, records

from paw_mlx import DiskError, FormatError, OptionError, PawError, formats, machine
from paw_mlx.benchmarks.accuracy import methods, tasks
from paw_mlx.benchmarks.accuracy import study as study_module
from paw_mlx.benchmarks.accuracy.answers import Answers, Unkept
from paw_mlx.benchmarks.accuracy.methods import Lab, StudyOptions
from paw_mlx.benchmarks.accuracy.study import Study, scores
from paw_mlx.cases import Case
from paw_mlx.evaluation import Judged


def judged(expected, answer):
    return Judged.of(Case("", expected), PawError("failed") if answer is None else answer)


def test_precision_recall_and_f1_are_those_counted_by_hand():
    pairs = [("ALERT", "ALERT")] * 3 + [("ALERT", "QUIET")] * 1 + [("QUIET", "ALERT")] * 3
    pairs += [("QUIET", "QUIET")] * 5 + [("ALERT", None)] + [("QUIET", "what?")]
    got = scores([judged(*pair) for pair in pairs], "ALERT")
    assert (got["num"], got["correct"], got["failed"]) == (14, 8, 1)
    assert got["accuracy"] == 8 / 14
    assert (got["precision"], got["recall"]) == (
        3 / 6,
        3 / 5,
    )  # three false, one missed, one failed
    assert got["f1"] == pytest.approx(6 / 11)
    never = scores([judged("ALERT", "QUIET")], "ALERT")
    assert (never["precision"], never["recall"], never["f1"]) == (None, 0.0, 0.0)
    assert scores([judged("QUIET", "QUIET")], "ALERT")["f1"] is None
    assert "precision" not in scores([judged("a", "a")])


def test_groups_are_by_category_or_else_by_kind_and_by_length(found, tmp_path):
    kinds = {row.input: names for _, row, names in study_module.groups(found)}
    flat = {name for names in kinds.values() for name in names}
    assert {"all", "kind: JSON", "kind: closed label", "kind: free text"} < flat
    assert sum(name.startswith("function: ") for name in flat) == 3
    with_category = tasks.load(str(write_csv(tmp_path / "rows.csv", category=True)))
    flat = {name for _, _, names in study_module.groups(with_category) for name in names}
    assert {"category: c0", "category: c1"} < flat
    assert not any(name.startswith("kind") for name in flat)
    assert study_module.commonest(tasks.load(str(tmp_path / "rows.csv"))) == (3 + 1 + 1) / 14


def test_methods_answer_the_same_rows_and_every_answer_is_kept(base, found, tmp_path):
    path = tmp_path / "answers.jsonl"
    study = Study(found, ("bare", "prompted", "tuned-2", "program", "fixed", "baseline"))
    rows = ask(study, base, path)
    asked = {(task.name, row.input) for task in found for row in task.test}
    kept = records(path)
    for name in ("bare", "prompted", "tuned-2"):
        mine = [line for line in kept if line["method"] == name]
        assert {(line["function"], line["input"]) for line in mine} == asked
        (whole,) = (r for r in rows if r["method"] == name and r["group"] == "all")
        assert whole["num"] == len(asked) == len(mine)
        assert whole["correct"] == sum(line["correct"] for line in mine)
    assert len({line["answer"] for line in kept}) > len(kept) / 2  # a base that says one thing?
    skipped = {row["method"]: row["skipped"] for row in rows if "skipped" in row}
    assert set(skipped) == {"program", "fixed", "baseline"}
    assert "no published compiler writes for" in skipped["program"]
    assert "no program is given" in skipped["fixed"]
    assert "is not on this machine" in skipped["baseline"]


class Enough(Exception):
    """Whoever watched has pressed Ctrl-C."""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 1, 5, 12, 20])
def test_what_was_interrupted_goes_on_and_comes_out_the_same(
    base, found, tmp_path, monkeypatch, limit
):
    study = Study(found, ("bare", "prompted", "tuned-2"), (None, "typos"))
    undisturbed = ask(study, base, tmp_path / "one.jsonl")
    path, add = tmp_path / "two.jsonl", Answers.add

    def interrupted(self, record):
        if len(self.records) == limit:
            raise Enough
        add(self, record)

    monkeypatch.setattr(Answers, "add", interrupted)
    with pytest.raises(Enough):
        ask(study, base, path)
    monkeypatch.setattr(Answers, "add", add)
    before = records(path)
    assert len(before) == limit
    with path.open("a") as file:
        file.write('{"method": "bare", "noise": nu')  # killed while it wrote
    assert ask(study, base, path) == undisturbed
    after = records(path)
    assert after[:limit] == before
    key = ("method", "noise", "function", "input", "answer")
    both = [
        sorted(str([r[k] for k in key]) for r in rs)
        for rs in (after, records(tmp_path / "one.jsonl"))
    ]
    assert both[0] == both[1]


def test_a_second_run_asks_and_trains_nothing(base, found, tmp_path, monkeypatch):
    study, path = Study(found, ("prompted", "tuned-2")), tmp_path / "a.jsonl"
    first = ask(study, base, path)
    text = path.read_text()
    monkeypatch.setattr(methods, "train", None)
    monkeypatch.setattr(Lab, "run", None)
    assert ask(study, base, path) == first
    assert path.read_text() == text
    # Answers lost, programs kept: they are run again, not trained again.
    monkeypatch.undo()
    lines = [line for line in text.splitlines(True) if '"method"' not in line]
    path.write_text("".join(lines))
    monkeypatch.setattr(methods, "train", None)
    assert ask(study, base, path) == first


def test_other_settings_are_refused_and_more_methods_are_not(base, found, tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    study = Study(found, ("bare",))
    ask(study, base, path)
    ask(Study(found, ("bare", "tuned-2"), (None, "paraphrase")), base, path)
    with pytest.raises(OptionError, match="other settings: seed 0, not 1"):
        ask(Study(found, ("bare",), seed=1), base, path)
    with pytest.raises(OptionError, match=r"functions 3, not 2; rows 7, not \d; data"):
        ask(Study(found[:2], ("bare",)), base, path)
    other = tiny.write_base(tmp_path / "other", "llama", seed=1)
    with pytest.raises(OptionError, match="weights"):
        ask(study, other, path)
    with pytest.raises(OptionError, match="steps 3, not 4"):
        ask(Study(found, ("tuned-2",)), base, path, steps=4)
    newer = machine.card() | {"mlx": "0.32.99"}
    with monkeypatch.context() as patched:
        patched.setattr(machine, "card", lambda: newer)
        with pytest.raises(OptionError, match=r"mlx 0\.32\.\d+, not 0\.32\.99"):
            ask(study, base, path)
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(FormatError, match="line 1: no answer of a study"):
        ask(study, base, tmp_path / "b.jsonl")


def test_what_a_file_does_not_say_is_not_taken_for_what_is_asked(tmp_path):
    path, held = tmp_path / "a.jsonl", {"seed": 0, "compiler": None}
    record = dict.fromkeys(("noise", "expected", "answer"), "")
    record |= {"function": "f", "input": "i", "correct": False}
    with Answers(path, held) as answers:
        answers.add(record | {"method": "bare"})
    Answers(path, held | {"compiler": "mine"}).close()  # no answer is a compiler's yet
    lines = path.read_text().splitlines(True)
    path.write_text("".join(lines[:-1]) + json.dumps(record | {"method": "program"}) + "\n")
    with pytest.raises(OptionError, match="compiler unknown, not mine"):
        Answers(path, held | {"compiler": "mine"})
    with pytest.raises(OptionError, match="mlx unknown, not 1"):
        Answers(path, held | {"mlx": "1"})
    Answers(path, held).close()


def test_a_second_run_on_the_same_answers_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    with Answers(path, {"seed": 0}):
        text = path.read_text()
        with pytest.raises(OptionError, match=r"another run has .*a\.jsonl open"):
            Answers(path, {"seed": 0})
        assert path.read_text() == text
    Answers(path, {"seed": 0}).close()


class FullDisk:
    """A file on a disk that is full, also when it is closed."""

    def _refuse(self, *data):
        raise OSError(errno.ENOSPC, "No space left on device")

    write = flush = close = _refuse


def test_a_full_disk_ends_the_study(base, found, tmp_path, monkeypatch):
    with Lab(StudyOptions(str(base))) as lab, Answers(tmp_path / "a.jsonl", {}) as answers:
        answers._file.close()
        answers._file = FullDisk()
        with pytest.raises(Unkept, match=r"cannot write .*No space left"):
            study_module.run(Study(found, ("bare", "prompted")), lab, answers)

    def refuse(*args, **options):
        raise DiskError("cannot write: the disk is full")

    monkeypatch.setattr(formats, "save", refuse)
    with pytest.raises(Unkept, match="the disk is full"):
        ask(Study(found, ("tuned-2",)), base, tmp_path / "b.jsonl")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("[METAL] Insufficient Memory"), "[METAL] Insufficient Memory"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_method_that_dies_ends_no_other(base, found, tmp_path, monkeypatch, error, reason):
    study, path = Study(found, ("prompted", "bare")), tmp_path / "a.jsonl"
    run = Lab.run

    def dying(lab, program, question, inputs):
        if question.spec in program.template.prefix:
            raise error
        return run(lab, program, question, inputs)

    with monkeypatch.context() as patched:
        patched.setattr(Lab, "run", dying)
        first, *rest = ask(study, base, path)
    assert (first["method"], first["skipped"]) == ("prompted", reason)
    assert {row["method"] for row in rest} == {"bare"}
    assert not any("skipped" in row for row in ask(study, base, path))


def test_noise_reaches_the_methods_that_see_the_spec(base, found, tmp_path):
    rows = ask(Study(found, ("bare", "prompted"), (None, "typos")), base, tmp_path / "a.jsonl")
    assert {(row["method"], row["noise"]) for row in rows} == {
        ("bare", None), ("prompted", None), ("prompted", "typos"),
    }  # fmt: skip
    said = {}
    for line in records(tmp_path / "a.jsonl"):
        said.setdefault((line["method"], line["noise"]), []).append(line["answer"])
    assert said["prompted", None] != said["prompted", "typos"]


def test_an_input_that_does_not_fit_is_wrong_and_stops_nothing(base, found, tmp_path):
    long = tasks.Example("0 " * 300, "yes")
    task = tasks.Task(LABEL, "closed label", (*found[0].test, long))
    rows = ask(Study([task], ("prompted",)), base, tmp_path / "a.jsonl")
    assert (rows[0]["num"], rows[0]["failed"]) == (len(found[0].test) + 1, 1)
    assert "window" in records(tmp_path / "a.jsonl")[-1]["error"]


def test_outputs_may_be_a_little_longer_than_the_right_ones(base, found):
    with Lab(StudyOptions(str(base))) as lab:
        task = tasks.Task("x", "free text", (tasks.Example("a", "z" * 40),))
        assert study_module.max_tokens(task, lab) == 40 + 10 + 8
