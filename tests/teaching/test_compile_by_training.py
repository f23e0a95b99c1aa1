"""`paw-mlx compile --train`: a compiled program learns what a teacher writes."""

from __future__ import annotations

import json
import random
from contextlib import closing

import pytest
import toy_compilers as toy
from click.testing import CliRunner
from compiling_repos import converted, interpreter
from teacher_server import SPEC, pair

from paw_mlx import function, load, settings
from paw_mlx.cli import cli
from paw_mlx.compiler.pipeline import Compiler
from paw_mlx.teaching import compiling
from paw_mlx.teaching.compiling import Lesson, train_by_teacher
from paw_mlx.teaching.endpoint import Endpoint

PSEUDO_PROGRAM = """[PSEUDO_PROGRAM]
Task: Is it about food? Return ONLY one of: yes, no

Examples:
Input: soup
Output: yes
Input: chess
Output: no
[END_PSEUDO_PROGRAM]"""


@pytest.fixture
def words(teacher, tmp_path):
    """`compile --train` with the tiny Qwen3 compiler and the tests' teacher."""
    (tmp_path / "pseudo.txt").write_text(PSEUDO_PROGRAM)
    known = ["--compiler", converted("qwen3"), "--interpreter", interpreter("qwen3")]
    known += ["--pseudo-program", tmp_path / "pseudo.txt", "--adapter", "f32", "--train"]
    known += ["--teacher", teacher.url, "--pairs", "80", "-o", tmp_path / "out.paw"]
    return ["compile", SPEC, *map(str, known)]


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(compiling, "STEPS", 60)
    monkeypatch.setattr(compiling, "BATCH", 8)
    monkeypatch.setattr(compiling, "CHECKS", 4)
    monkeypatch.setattr(compiling, "LEARNING_RATE", 1e-2)


def run(words, *more):
    return CliRunner().invoke(cli, [*words, *map(str, more)], catch_exceptions=False)


def test_what_is_compiled_is_trained_and_says_so(words, few_steps, tmp_path):
    done = run(words, "--json")
    assert done.exit_code == 0
    record = json.loads(done.stdout)
    training, program = record["training"], load(tmp_path / "out.paw")
    assert training["pairs"]["kept"] == 80
    assert 8 <= training["before"]["num_cases"] == training["after"]["num_cases"] <= 16
    assert training["after"]["num_correct"] > training["before"]["num_correct"]
    assert training["kept"] == "trained"
    assert (program.spec, program.pseudo_program) == (SPEC, PSEUDO_PROGRAM)
    assert program.meta["compiler_kind"] == "finetune_lora"
    kept = program.meta["training"]
    assert (kept["steps"], kept["batch_size"], kept["shots"]) == (60, 8, 0)
    assert kept["num_trained"] + kept["num_held_out"] == len(kept["seen"]) == 80
    assert kept["pairs"]["dropped"] == training["pairs"]["dropped"]
    (adapter,) = {(lora.rank, lora.alpha) for lora in program.adapter.sites.values()}
    assert (kept["rank"], kept["alpha"]) == adapter


def test_a_training_that_makes_it_worse_is_not_kept(words, few_steps, tmp_path):
    assert run([word for word in words[:-4] if word != "--train"][:-2] + words[-2:]).exit_code == 0
    texts = [
        pair(random.Random(seed), label)["input"] for seed in range(30) for label in ("yes", "no")
    ]
    fn = function(str(tmp_path / "out.paw"), interpreter=str(interpreter("qwen3")))
    with closing(fn.runner):
        said = [*fn.map(texts)]
    cases = tmp_path / "cases.jsonl"  # in which the program as it was compiled is always right
    rows = [{"input": text, "output": output} for text, output in zip(texts, said, strict=True)]
    cases.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    done = run(words, "--cases", cases)
    assert "on 60 held-out cases: 60 right as compiled" in done.stderr
    assert "training made it worse" in done.stderr
    assert load(tmp_path / "out.paw").meta["compiler_kind"] == "mapper_lora"


@pytest.mark.slow
def test_the_gate_is_held_against_what_is_trained(words, few_steps, tmp_path):
    cases = tmp_path / "cases.jsonl"
    cases.write_text('{"input": "soup at noon", "output": "yes"}\n{"input": "x", "output": "y"}\n')
    done = run(words, "--gate", "accuracy>=0", "--cases", cases)
    assert done.exit_code == 1
    assert "is not one of the labels yes, no" in str(done.exception) + done.stderr
    cases.write_text('{"input": "soup at noon", "output": "no"}\n')
    done = run(words, "--gate", "accuracy>=0.9, recall[no]>=1.0", "--cases", cases, "--json")
    gate = json.loads(done.stdout)["training"]["gate"]
    assert done.exit_code == (0 if all(one["met"] for one in gate) else 1)
    assert (tmp_path / "out.paw").exists() is (done.exit_code == 0)
    done = run(words, "--gate", "accuracy>=0")
    assert done.exit_code == 0


@pytest.mark.slow
def test_the_pairs_are_kept_and_not_asked_for_again(teacher, words, few_steps, tmp_path):
    for more in ([], ["--pairs-kept", tmp_path / "pairs.jsonl"]):
        run(words, *more)
        num = len(teacher.log)
        done = run(words, *more)
        assert "80 of 80 pairs, 80 of them earlier" in done.stderr
        assert len(teacher.log) == num
    assert (tmp_path / "pairs.jsonl").read_text().count("\n") == 80
    done = run([*words[:-6], "--teacher", str(tmp_path / "pairs.jsonl"), *words[-2:]])
    assert "80 of 80 pairs, by 0 questions to pairs.jsonl" in done.stderr


def test_too_few_pairs_are_said_and_nothing_is_written(teacher, words, tmp_path):
    teacher.spoil = lambda question, answer: "perhaps"
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 1
    assert "0 pairs were kept, and training takes 20 at least" in done.stderr
    assert not (tmp_path / "out.paw").exists()


def test_a_compiler_without_a_pseudo_compiler_needs_a_teacher(tmp_path):
    base = toy.write_base(tmp_path / "base")
    toy.train(base, tmp_path / "compiler")
    words = ["compile", SPEC, "--train", "-o", str(tmp_path / "out.paw"), "--offline"]
    words += ["--compiler", str(tmp_path / "compiler"), "--interpreter", str(base)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 1
    assert "error: compiler has no pseudo-compiler, which would be the teacher" in done.stderr
    assert "hint: Name one: --teacher" in done.stderr


def test_what_is_for_train_needs_it():
    done = CliRunner().invoke(cli, ["compile", SPEC, "-o", "x.paw", "--teacher", "x.jsonl"])
    assert done.exit_code == 2
    assert "are for --train" in done.stderr


@pytest.mark.slow
def test_a_compile_that_was_cut_off_goes_on_and_ends_as_an_unbroken_one(
    teacher, few_steps, tmp_path, monkeypatch
):
    def stop_at(number):
        def report(so_far):
            if getattr(so_far, "kept", getattr(so_far, "number", 0)) == number:
                raise KeyboardInterrupt

        return report

    with Compiler.load(str(converted("qwen3")), interpreter=str(interpreter("qwen3"))) as compiler:
        program = compiler.compile(SPEC, pseudo_program=PSEUDO_PROGRAM)
    ends = []
    for home, stops in (
        ("broken", [("on_pair", 30), ("on_pair", 70), ("on_step", 20)]),
        ("whole", []),
    ):
        monkeypatch.setenv("PAW_MLX_HOME", str(tmp_path / home))
        for where, number in stops:
            lesson = Lesson(Endpoint(teacher.url, None), 80)
            with pytest.raises(KeyboardInterrupt):
                train_by_teacher(
                    program, compiler.target.path, lesson, "f32", **{where: stop_at(number)}
                )
        lesson, steps = Lesson(Endpoint(teacher.url, None), 80), list[int]()
        taught = train_by_teacher(
            program,
            compiler.target.path,
            lesson,
            "f32",
            on_step=lambda step, steps=steps: steps.append(step.number),
        )
        assert steps[0] == (16 if stops else 1)  # the last check before it was stopped is taken up
        ends.append(taught.program.digest())
        taught.forget()
    assert ends[0] == ends[1]
    left = [path.name for path in (settings.cache_dir() / "teaching").rglob("*")]
    assert sorted(left)[1:] == ["pairs.jsonl", "pairs.jsonl.state.json"]
