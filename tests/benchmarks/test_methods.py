"""The methods, on tiny bases and compilers."""

from __future__ import annotations

import json
import random
import shutil

import pytest
import tiny
from chat_models import random_model, scripted_model
from compiling_repos import PSEUDO_PROGRAM, converted, interpreter
from fuzzy_rows import LABEL, TEXT, write_jsonl
from studies import ask, records

from paw_mlx import OptionError, formats, machine
from paw_mlx.benchmarks.accuracy import methods, tasks
from paw_mlx.benchmarks.accuracy.methods import Lab, StudyOptions, recipe_for
from paw_mlx.benchmarks.accuracy.study import Study
from paw_mlx.benchmarks.speed.sizes import SLACK_BYTES, cache_bytes, mlx_lm_sizes
from paw_mlx.training import program as training


def test_a_compiler_is_known_by_more_than_the_name_of_its_folder(base, found, tmp_path):
    def compilers(compiler):
        with Lab(StudyOptions(str(base), compiler=compiler)) as lab:
            name = methods.Compiled(lab, None).name(methods.Question(found[0], "spec", 8))
            return lab.compilers[0], name

    (one, program), (other, another) = (
        compilers(str(tmp_path / folder / "mine")) for folder in "ab"
    )
    assert one != other
    assert program != another
    assert one.startswith("mine (")
    assert str(tmp_path) not in one
    assert compilers(None)[0] is None  # none is published for this base
    assert methods.name_of("paw-4b-gpt2") == methods.name_of("programasweights/paw-4b-gpt2")
    assert methods.name_of("somebody/else") == "somebody/else"


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


@pytest.mark.slow
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
    questions = [methods.Question(task, task.spec, 100) for task in found]
    with Lab(StudyOptions(str(base))) as lab:
        weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
        needed = weights + lab.interpreter.base.nbytes + SLACK_BYTES
        if family == "qwen3":
            assert (
                256 < methods.longest_prompt(lab, questions) <= 512
            )  # mlx-lm makes room for 256 at a time
            sizes = mlx_lm_sizes(config, None)
            cache = cache_bytes(sizes, 257)
            assert 0 < cache == 2 * cache_bytes(sizes, 256)
            assert cache_bytes(sizes, 10**6) == 16 * cache  # its window's
            needed += 3 * cache
        monkeypatch.setattr(machine, "limit_bytes", lambda: needed)
        methods.check_memory(model, lab, questions)
        monkeypatch.setattr(machine, "limit_bytes", lambda: needed - 1)
        with pytest.raises(OptionError, match=r"it needs 1\.0 GB \(0\.0 weights"):
            methods.check_memory(model, lab, questions)


def test_a_large_model_answers_a_single_row_and_has_the_memory_for_itself(base, found, tmp_path):
    model = random_model(tmp_path / "chat", seed=5)
    task = tasks.Task(TEXT, "free text", found[2].test[:1])
    rows = ask(Study([task], ("baseline",)), base, tmp_path / "a.jsonl", baseline=str(model))
    assert (rows[0]["num"], rows[0].get("failed")) == (1, None)
    with Lab(StudyOptions(str(base), baseline=str(model))) as lab:
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


@pytest.mark.parametrize("num", range(2, 40))
def test_there_is_a_recipe_for_every_number_of_rows(num):
    recipe = recipe_for(num, 5, 0)
    cases = [training.Case(str(i), random.Random(i).choice("ab")) for i in range(num)]
    rows, held_out = training.split(cases, recipe)
    assert held_out
    shown = training.shots(rows, recipe.shots, tiny.tokenizer())
    assert len(rows) - len(shown) >= recipe.batch_size
    assert num < 20 or (recipe.batch_size, recipe.shots) == (8, 4)


def test_prompts_hold_spec_and_input_and_no_placeholder():
    turn = ("<|user|>", "<|answer|>")
    text = methods.prompt(" Do it with {INPUT_PLACEHOLDER}. ", turn).render("now")
    assert text.startswith("<|user|>Do it with INPUT_PLACEHOLDER.\n\n")
    assert text.endswith("Input: now<|answer|>")
    with pytest.raises(OptionError, match="no method 'tuned-0'"):
        methods.check_name("tuned-0")


def test_what_learns_from_all_rows_is_said_to(base, found, tmp_path):
    study = Study(found, ("tuned-1", "tuned-20", "tuned-all"))
    rows = {r["method"]: r for r in ask(study, base, tmp_path / "a.jsonl") if r["group"] == "all"}
    assert rows["tuned-20"]["same_as"] == "tuned-all"
    assert all("same_as" not in rows[name] for name in ("tuned-1", "tuned-all"))
    alone = ask(Study(found, ("tuned-20",)), base, tmp_path / "a.jsonl")
    assert "same_as" not in alone[0]


@pytest.mark.slow
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
