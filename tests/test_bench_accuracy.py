"""Accuracy: the arithmetic against known values, the methods on tiny bases, going on later."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil

import pytest
import tiny
from chat_models import random_model, scripted_model
from compiling_repos import PSEUDO_PROGRAM, converted, interpreter
from fuzzy_rows import LABEL, ROWS, TEXT, write_csv, write_jsonl
from shell import inside

from paw_mlx import FormatError, HubError, OptionError, formats
from paw_mlx.benchmarks import accuracy, machine, methods, room, tasks, worker
from paw_mlx.benchmarks.accuracy import Judged, Study, scores, wilson
from paw_mlx.benchmarks.answers import Answers, Unkept
from paw_mlx.benchmarks.methods import Lab, Options, recipe_for
from paw_mlx.benchmarks.sizes import SLACK_BYTES
from paw_mlx.compiler import training


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.write_base(tmp_path_factory.mktemp("bases") / "tiny", "llama")


@pytest.fixture
def found(tmp_path):
    return tasks.load(str(write_jsonl(tmp_path / "rows.jsonl")), halve=True)


def ask(study, base, path, whole=False, **options):
    """A study on a tiny base, from a file of answers: its rows, without seconds unless `whole`."""
    with (
        Lab(Options(str(base), **{"steps": 3, **options})) as lab,
        Answers(path, accuracy.settings(study, lab)) as answers,
    ):
        rows = accuracy.run(study, lab, answers)
    if whole:
        return rows
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def records(path):
    """The answers in a file, its settings and programs left out."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if "method" in line]


# Known values: Newcombe (1998), table I, method 3; for 1/29 Agresti and Coull's arithmetic too.
@pytest.mark.parametrize(
    ("correct", "num", "interval"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (20, 20, (0.8389, 1.0)),
    ],
)
def test_intervals_are_wilsons(correct, num, interval):
    assert wilson(correct, num) == pytest.approx(interval, abs=5e-5)


def test_precision_recall_and_f1_are_those_counted_by_hand():
    pairs = [("ALERT", "ALERT")] * 3 + [("ALERT", "QUIET")] * 1 + [("QUIET", "ALERT")] * 3
    pairs += [("QUIET", "QUIET")] * 5 + [("ALERT", None)] + [("QUIET", "what?")]
    got = scores([Judged(*pair) for pair in pairs], "ALERT")
    assert (got["num"], got["correct"], got["failed"]) == (14, 8, 1)
    assert got["accuracy"] == 8 / 14
    assert (got["precision"], got["recall"]) == (
        3 / 6,
        3 / 5,
    )  # three false, one missed, one failed
    assert got["f1"] == pytest.approx(6 / 11)
    never = scores([Judged("ALERT", "QUIET")], "ALERT")
    assert (never["precision"], never["recall"], never["f1"]) == (None, 0.0, 0.0)
    assert scores([Judged("QUIET", "QUIET")], "ALERT")["f1"] is None
    assert "precision" not in scores([Judged("a", "a")])


def test_groups_are_by_category_or_else_by_kind_and_by_length(found, tmp_path):
    kinds = {row.input: names for _, row, names in accuracy.groups(found)}
    flat = {name for names in kinds.values() for name in names}
    assert {"all", "kind: JSON", "kind: closed label", "kind: free text"} < flat
    assert sum(name.startswith("function: ") for name in flat) == 3
    assert [accuracy.length("x" * n) for n in (99, 100, 399, 400)] == [
        *("short", "medium", "medium", "long")
    ]
    with_category = tasks.load(str(write_csv(tmp_path / "rows.csv", category=True)))
    flat = {name for _, _, names in accuracy.groups(with_category) for name in names}
    assert {"category: c0", "category: c1"} < flat
    assert not any(name.startswith("kind") for name in flat)
    assert accuracy.commonest(tasks.load(str(tmp_path / "rows.csv"))) == (3 + 1 + 1) / 14


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


def test_a_trained_lora_learns_what_prompting_does_not(base, tmp_path):
    words = ["disk", "server", "picnic", "spring", "Friday", "down", "full", "welcome"]
    pairs = [(LABEL, f"{a} {b}", "yes" if a < "full" else "no") for a in words for b in words]
    found = tasks.load(str(write_jsonl(tmp_path / "many.jsonl", pairs)), halve=True)
    study = Study(found, ("prompted", "tuned-all"), positive="yes")
    rows = ask(study, base, tmp_path / "a.jsonl", whole=True, steps=200)
    prompted, tuned = (row for row in rows if row["group"] == "all")
    assert prompted["accuracy"] < 0.5 < tuned["low"]
    assert tuned["recall"] > 0
    assert tuned["seconds"] > 0
    assert "seconds" not in prompted


def test_training_sees_no_row_that_is_tested(base, found, tmp_path, monkeypatch):
    seen = []

    def spied(base, spec, cases, recipe, **options):
        seen.append((spec, {case.input for case in cases}))
        return training.train(base, spec, cases, recipe, **options)

    monkeypatch.setattr(methods, "train", spied)
    ask(Study(found, ("tuned-2", "tuned-all"), (None, "typos")), base, tmp_path / "a.jsonl")
    assert len(seen) == 6  # two of each are all there are: one training serves both
    assert len({spec for spec, _ in seen}) == 6
    tested = {row.input for task in found for row in task.test}
    assert not any(inputs & tested for _, inputs in seen)


class Enough(Exception):
    """Whoever watched has pressed Ctrl-C."""


@pytest.mark.parametrize("limit", [0, 1, 5, 12, 20])
def test_what_was_interrupted_goes_on_and_comes_out_the_same(
    base, found, tmp_path, monkeypatch, limit
):
    study = Study(found, ("bare", "prompted", "tuned-2"), (None, "typos"))
    undisturbed = ask(study, base, tmp_path / "one.jsonl")
    path, add = tmp_path / "two.jsonl", Answers.add

    def interrupted(self, record):
        if len(self) == limit:
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
    monkeypatch.setattr(methods, "_run", None)
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


def test_a_compiler_is_known_by_more_than_the_name_of_its_folder(base, found, tmp_path):
    def compilers(compiler):
        with Lab(Options(str(base), compiler=compiler)) as lab:
            name = methods.Compiled(lab, None).name(accuracy.Job(found[0], "spec", 8))
            return lab.compilers[0], name

    (one, program), (other, another) = (
        compilers(str(tmp_path / folder / "mine")) for folder in "ab"
    )
    assert one != other
    assert program != another
    assert one.startswith("mine (")
    assert str(tmp_path) not in one
    assert compilers(None)[0] is None  # none is published for this base
    assert methods.named("paw-4b-gpt2") == methods.named("programasweights/paw-4b-gpt2")
    assert methods.named("somebody/else") == "somebody/else"


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
    with Lab(Options(str(base))) as lab, Answers(tmp_path / "a.jsonl", {}) as answers:
        answers._file.close()
        answers._file = FullDisk()
        with pytest.raises(Unkept, match=r"cannot write .*No space left"):
            accuracy.run(Study(found, ("bare", "prompted")), lab, answers)

    def refuse(*args, **options):
        raise HubError("cannot write: the disk is full")

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
    run = methods._run

    def dying(lab, program, job, inputs):
        if job.spec in program.template.prefix:
            raise error
        return run(lab, program, job, inputs)

    with monkeypatch.context() as patched:
        patched.setattr(methods, "_run", dying)
        first, *rest = ask(study, base, path)
    assert (first["method"], first["skipped"]) == ("prompted", reason)
    assert {row["method"] for row in rest} == {"bare"}
    assert not any("skipped" in row for row in ask(study, base, path))


def test_what_learns_from_all_rows_is_said_to(base, found, tmp_path):
    study = Study(found, ("tuned-1", "tuned-20", "tuned-all"))
    rows = {r["method"]: r for r in ask(study, base, tmp_path / "a.jsonl") if r["group"] == "all"}
    assert rows["tuned-20"]["same_as"] == "tuned-all"
    assert all("same_as" not in rows[name] for name in ("tuned-1", "tuned-all"))
    alone = ask(Study(found, ("tuned-20",)), base, tmp_path / "a.jsonl")
    assert "same_as" not in alone[0]


def test_noise_reaches_the_methods_that_see_the_spec(base, found, tmp_path):
    rows = ask(Study(found, ("bare", "prompted"), (None, "typos")), base, tmp_path / "a.jsonl")
    assert {(row["method"], row["noise"]) for row in rows} == {
        ("bare", None), ("prompted", None), ("prompted", "typos"),
    }  # fmt: skip
    said = {}
    for line in records(tmp_path / "a.jsonl"):
        said.setdefault((line["method"], line["noise"]), []).append(line["answer"])
    assert said["prompted", None] != said["prompted", "typos"]


def test_the_fixed_lora_and_the_bare_base_differ_by_what_they_say(base, found, tmp_path):
    path = tmp_path / "fixed.paw"
    formats.save(tiny.program("llama"), path, dtype="f32", profile=tiny.profile("llama"))
    study = Study(found, ("fixed", "prompted"))
    rows = ask(study, base, tmp_path / "a.jsonl", fixed=str(path))
    assert not any("skipped" in row for row in rows)
    other = tmp_path / "other.paw"
    formats.save(tiny.program("qwen3"), other, dtype="f32", profile=tiny.profile("qwen3"))
    rows = ask(study, base, tmp_path / "b.jsonl", fixed=str(other))
    assert [row["method"] for row in rows if "skipped" in row] == ["fixed"]


def test_specs_are_compiled_and_their_programs_kept(found, tmp_path):
    options = {
        "compiler": str(converted("qwen3")),
        "pseudo_compiler": str(scripted_model(tmp_path / "model", PSEUDO_PROGRAM)),
    }
    study = Study(found, ("prompted", "program"))
    rows = ask(study, interpreter("qwen3"), tmp_path / "a.jsonl", **options)
    assert not any("skipped" in row for row in rows)
    assert len(list((tmp_path / "a.programs").glob("compiled-*.paw"))) == 3
    shutil.rmtree(tmp_path / "model")  # no need of it any more
    assert ask(study, interpreter("qwen3"), tmp_path / "a.jsonl", **options) == rows
    shutil.rmtree(tmp_path / "a.programs")
    lines = (tmp_path / "a.jsonl").read_text().splitlines(True)
    (tmp_path / "a.jsonl").write_text("".join(lines[:-1]))  # an answer is open again
    (row,) = ask(Study(found, ("program",)), interpreter("qwen3"), tmp_path / "a.jsonl", **options)
    assert "it is no path, no hub repo" in row["skipped"]  # and no answer counts as wrong


def test_a_spec_that_cannot_be_compiled_is_wrong_on_all_its_rows(found, tmp_path):
    # It answers well on the first turn of a conversation; one spec is too long for the window.
    options = {
        "compiler": str(converted("qwen3")),
        "pseudo_compiler": str(scripted_model(tmp_path / "model", PSEUDO_PROGRAM)),
    }
    long = tasks.Task("very " * 3000, "free text", found[0].test, found[0].train)
    study, path = Study([*found[:1], long], ("program",)), tmp_path / "a.jsonl"
    rows = ask(study, interpreter("qwen3"), path, **options)
    assert rows[0]["failed"] == len(long.test) == rows[0]["num"] / 2
    assert all(r["error"] and not r["correct"] for r in records(path) if r["answer"] is None)
    lines = path.read_text().splitlines(True)
    path.write_text("".join(lines[:-1]))  # the long spec alone is open again
    assert ask(study, interpreter("qwen3"), path, **options) == rows


def test_a_large_model_is_prompted_through_mlx_lm(base, found, tmp_path, monkeypatch):
    model = random_model(tmp_path / "chat", seed=5)
    study = Study(found, ("baseline",))
    rows = ask(study, base, tmp_path / "a.jsonl", baseline=str(model))
    assert "skipped" not in rows[0]
    assert len({line["answer"] for line in records(tmp_path / "a.jsonl")}) > 1
    monkeypatch.setattr(machine, "limit_bytes", lambda: 1000)
    (row,) = ask(study, base, tmp_path / "b.jsonl", baseline=str(model))
    assert "and this machine gives 0.0 GB" in row["skipped"]


@pytest.mark.parametrize("family", ["qwen3", "unheard-of"])
def test_a_large_model_has_to_fit_with_its_cache_beside_the_base(
    base, found, tmp_path, monkeypatch, family
):
    model = random_model(tmp_path / "chat", seed=5)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": family}))
    jobs = [methods.Job(task, task.spec, 100) for task in found]
    with Lab(Options(str(base))) as lab:
        weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
        needed = weights + lab.interpreter.base.nbytes + SLACK_BYTES
        if family == "qwen3":
            assert 256 < methods._longest(lab, jobs) <= 512  # mlx-lm makes room for 256 at a time
            sizes = room.sizes_of(config, None)
            cache = room.cache_bytes(sizes, 257)
            assert 0 < cache == 2 * room.cache_bytes(sizes, 256)
            assert room.cache_bytes(sizes, 10**6) == 16 * cache  # its window's
            needed += 3 * cache
        monkeypatch.setattr(machine, "limit_bytes", lambda: needed)
        methods._check_memory(model, "it", lab, jobs)
        monkeypatch.setattr(machine, "limit_bytes", lambda: needed - 1)
        with pytest.raises(OptionError, match=r"it needs 1\.0 GB \(0\.0 weights"):
            methods._check_memory(model, "it", lab, jobs)


def test_a_large_model_answers_a_single_row_and_has_the_memory_for_itself(base, found, tmp_path):
    model = random_model(tmp_path / "chat", seed=5)
    task = tasks.Task(TEXT, "free text", found[2].test[:1])
    rows = ask(Study([task], ("baseline",)), base, tmp_path / "a.jsonl", baseline=str(model))
    assert (rows[0]["num"], rows[0].get("failed")) == (1, None)
    with Lab(Options(str(base), baseline=str(model))) as lab:
        assert lab.trainee
        baseline = methods.Baseline(lab)
        baseline.prepare([], 1)
        assert "trainee" not in vars(lab)
        baseline.close()


def test_too_few_rows_to_learn_from_fail_that_function_alone(base, found, tmp_path):
    bare, path = tasks.Task(TEXT, "free text", found[2].test), tmp_path / "a.jsonl"
    rows = ask(Study([found[0], bare], ("tuned-2",)), base, path)
    assert rows[0]["failed"] == len(bare.test) < rows[0]["num"]
    errors = {line["function"]: line.get("error") for line in records(path)}
    assert errors == {found[0].name: None, bare.name: "fewer than 2 rows to learn from"}
    rows = ask(Study([bare], ("tuned-2", "bare")), base, tmp_path / "b.jsonl")
    assert rows[0]["skipped"] == "fewer than 2 rows to learn from"
    assert rows[1]["method"] == "bare"


def test_an_input_that_does_not_fit_is_wrong_and_stops_nothing(base, found, tmp_path):
    long = tasks.Row("0 " * 300, "yes")
    task = tasks.Task(LABEL, "closed label", (*found[0].test, long))
    rows = ask(Study([task], ("prompted",)), base, tmp_path / "a.jsonl")
    assert (rows[0]["num"], rows[0]["failed"]) == (len(found[0].test) + 1, 1)
    assert "window" in records(tmp_path / "a.jsonl")[-1]["error"]


def test_outputs_may_be_a_little_longer_than_the_right_ones(base, found):
    with Lab(Options(str(base))) as lab:
        task = tasks.Task("x", "free text", (tasks.Row("a", "z" * 40),))
        assert accuracy._limit(task, lab) == 40 + 10 + 8


@pytest.mark.parametrize("num", range(2, 40))
def test_there_is_a_recipe_for_every_number_of_rows(num):
    recipe = recipe_for(num, 5, 0)
    cases = [training.Case(str(i), random.Random(i).choice("ab")) for i in range(num)]
    rows, held_out = training.split(cases, recipe)
    assert held_out
    assert len(rows) - len(training.shots(rows, recipe.shots)) >= recipe.batch_size
    assert num < 16 or (recipe.batch_size, recipe.shots) == (8, 4)


def test_prompts_hold_spec_and_input_and_no_placeholder():
    turn = ("<|user|>", "<|answer|>")
    text = methods.prompt(" Do it with {INPUT_PLACEHOLDER}. ", turn).render("now")
    assert text.startswith("<|user|>Do it with INPUT_PLACEHOLDER.\n\n")
    assert text.endswith("Input: now<|answer|>")
    with pytest.raises(OptionError, match="no method 'tuned-0'"):
        methods.check_name("tuned-0")


def test_the_command_prints_one_line_of_json(base, tmp_path, monkeypatch, capfdbinary):
    paw = inside(monkeypatch, capfdbinary)
    rows = write_jsonl(tmp_path / "rows.jsonl")
    words = ["bench", "accuracy", rows, "--interpreter", base, "--steps", "3", "--seed", "1"]
    words += ["--method", "bare", "--method", "tuned-2", "--method", "program"]
    words += ["--noise", "paraphrase"]
    done = paw(*words, "--positive", "yes", "--json", "--answers", tmp_path / "answers.jsonl")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert (report["schema"], report["kind"], report["synthetic"]) == (1, "accuracy", False)
    about = report["settings"]
    assert (about["source"], about["functions"], about["seed"]) == ("rows.jsonl", 3, 1)
    assert about["rows"] == 7
    assert {(r["method"], r["noise"]) for r in report["rows"]} == {
        ("bare", None), ("tuned-2", None), ("tuned-2", "paraphrase"),
        ("program", None), ("program", "paraphrase"),
    }  # fmt: skip
    assert report["rows"][0]["group"] == "all"
    assert str(tmp_path).encode() not in line
    assert len(records(tmp_path / "answers.jsonl")) == 3 * 7
    again = paw(*words, "--answers", tmp_path / "answers.jsonl", "-o", tmp_path / "out")
    assert "21 so far" in again.stderr
    assert list((tmp_path / "out").glob("*-accuracy.json"))


def test_the_command_trains_on_half_of_a_single_function(base, tmp_path, monkeypatch, capfdbinary):
    paw = inside(monkeypatch, capfdbinary)
    awake = []
    monkeypatch.setattr(worker, "kept_awake", awake.append)
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS[:6])
    words = ("--interpreter", base, "--steps", "3", "--offline", "--json")
    done = paw("bench", "accuracy", rows, *words)
    report = json.loads(done.stdout)
    ran = {row["method"] for row in report["rows"] if "skipped" not in row}
    assert ran == {"bare", "prompted", "tuned-5", "tuned-20", "tuned-all"}
    assert report["settings"]["rows"] == 3
    assert "clustered" not in report["settings"]
    assert awake == [os.getpid()]
    several = write_jsonl(tmp_path / "several.jsonl")
    about = json.loads(paw("bench", "accuracy", several, *words).stdout)["settings"]
    assert (about["rows"], about["clustered"]) == (14, 3)


def test_the_command_fails_if_nothing_could_run(base, tmp_path, monkeypatch, capfdbinary):
    paw = inside(monkeypatch, capfdbinary)
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS[:6])
    done = paw("bench", "accuracy", rows, "--interpreter", base, "--method", "program", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["rows"][0]["skipped"]


def test_the_command_says_that_a_logs_halves_are_alike(base, tmp_path, monkeypatch, capfdbinary):
    paw = inside(monkeypatch, capfdbinary)
    (tmp_path / "a.log").write_text("- all is well\nAPP failed\n- all is good\nAPP failing\n")
    words = ("--interpreter", base, "--method", "bare", "--json")
    about = json.loads(paw("bench", "accuracy", tmp_path / "a.log", *words).stdout)["settings"]
    assert "nearly alike lie in both halves" in about["groups"]


def test_the_command_refuses_what_is_wrong(base, tmp_path, monkeypatch, capfdbinary):
    paw = inside(monkeypatch, capfdbinary)
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS[:6])
    start = ("bench", "accuracy", rows, "--interpreter", base)
    assert "there is no method 'best'" in paw(*start, "--method", "best").stderr
    refused = paw(*start, "--method", "bare", "--positive", "maybe")
    assert "no output is 'maybe'" in refused.stderr
    assert "There are no, yes." in refused.stderr
    done = paw(*start, "--method", "bare", "--json")  # answers are kept without being asked for
    assert done.returncode == 0
    assert paw(*start, "--method", "bare", "--json", "--steps", "0").returncode == 0
