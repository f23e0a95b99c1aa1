"""Candidates: what is drawn, what is chosen by, and that the best of several varies less."""

from __future__ import annotations

import gc
import weakref
from collections import Counter

import pytest
import toy_compilers as toy
from chat_models import random_model, scripted_model
from compiling_repos import PSEUDO_PROGRAM, interpreter
from scripted_writer import INPUTS, LABELS, TASK, ScriptedWriter, advised, cases, compiler

import paw_mlx as paw
from paw_mlx import settings
from paw_mlx.cases import Case
from paw_mlx.compiler import chat
from paw_mlx.compiler.candidates import Choice, choose
from paw_mlx.compiler.choosing import FEW, choose_program, divide_cases
from paw_mlx.compiler.compilation import Compilation
from paw_mlx.compiler.pseudo import PseudoCompiler, Room, check
from paw_mlx.compiler.wordings import INSTRUCTIONS, Draw
from paw_mlx.compiler.writer import SpecWriter, write_pseudo_program
from paw_mlx.progress import quiet

ROOM = Room(len, 5000)


def chosen(writer: object, num: int, **options: object) -> Choice:
    wanted = Compilation(TASK, output=LABELS)
    return choose(compiler(writer), wanted, num, **{"dtype": "f32", **options})


@pytest.fixture(scope="module")
def said() -> dict[str, tuple[paw.Program, list[str]]]:
    """Three programs, and what each says of the first inputs."""
    loaded, found = compiler(None), {}
    with paw.Interpreter.load(str(interpreter("qwen3"))) as runner:
        for name, advice in {
            "a": ("Never mind", "In short"),
            "b": ("Please", "Please"),
            "c": ("Always", "Quickly"),
        }.items():
            pseudo = advised(*advice)
            program = loaded.compile(TASK, pseudo_program=pseudo, output=LABELS)
            found[name] = program, list(runner.function(program).map(INPUTS[:100]))
    return found


# The best of several.


def test_a_choice_repeats_and_is_on_record_in_the_program():
    choice = chosen(ScriptedWriter(), 4, cases=cases(), seed=3, dtype="auto")
    again = chosen(ScriptedWriter(), 4, cases=cases(), seed=3, dtype="auto")
    record = choice.record()
    assert again.record() == record
    program = choice.chosen.compilation.program
    assert program
    assert program.meta["paw_mlx"]["candidates"] == record
    assert program.meta["paw_mlx"]["script"] == choice.chosen.compilation.draw.number
    assert (record["n"], record["by"], record["num_judged"], record["seed"]) == (4, "cases", 100, 3)
    scores = [one["score"] for one in record["candidates"]]
    assert record["chosen"] == scores.index(max(scores)) + 1
    assert record["rest"]["num_cases"] == 100
    assert record["rest"]["interval"][0] < record["rest"]["accuracy"]
    assert program.adapter
    assert program.adapter.dtypes == ("q4_0",)  # judged as it is stored


def test_what_is_reported_was_not_chosen_by():
    choice = chosen(ScriptedWriter(), 2, cases=cases(), seed=1)
    parts = divide_cases(cases(), 1, shown=False)
    assert choice.report
    assert {one.input for one in choice.report.judged} == {case.input for case in parts.rest}
    assert not {case.input for case in parts.choosing} & {case.input for case in parts.rest}


def test_candidates_that_repeat_or_fail_are_left_out():
    writer = ScriptedWriter(always=advised("Please", "Please"))
    choice = chosen(writer, 3, cases=cases()[:20])
    assert (len(choice.candidates), choice.by, choice.number) == (1, "nothing", 1)
    assert len(writer.asked) == 9
    assert choice.report
    assert len(choice.report.judged) == 20  # all of them, since none chose

    choice = chosen(ScriptedWriter(0, 2), 3, cases=cases()[:60])
    assert [bool(one.compilation.error) for one in choice.candidates] == [True, False, True]
    assert (choice.number, choice.candidates[0].score) == (2, None)
    assert "draw 0" in choice.record()["candidates"][0]["error"]
    with pytest.raises(paw.CompileError, match="no pseudo-program from draw 0"):
        chosen(ScriptedWriter(*range(9)), 3, cases=cases()[:20])


@pytest.mark.slow
def test_few_adapters_are_in_memory_whatever_the_number_of_candidates(monkeypatch):
    few = cases()[:8]  # a program makes these
    alive: weakref.WeakSet[paw.Program] = weakref.WeakSet()
    most, make = [], paw.Compiler._make_program

    def counted(self: paw.Compiler, *arguments: object) -> paw.Program:
        program = make(self, *arguments)
        alive.add(program)
        gc.collect()
        most.append(len(alive))
        return program

    monkeypatch.setattr(paw.Compiler, "_make_program", counted)
    chosen(ScriptedWriter(), 12, cases=few)
    assert len(most) == 12
    assert max(most) <= 5  # in float32; the others lie on disk, as they would be stored


# What is chosen by.


def test_cases_are_divided_by_output_and_inputs_stay_together():
    rows = [Case(f"text {n}", "abc"[min(n % 10, 2)]) for n in range(60)]
    rows += [Case("text 3", "again")]
    parts = divide_cases(rows, 0, shown=False)
    counts = [Counter(case.output for case in part) for part in parts[1:]]
    assert sum(counts, Counter()) == Counter(case.output for case in rows)
    assert all(abs(counts[0][label] - counts[1][label]) <= 1 for label in "abc")
    homes = [{case.input for case in part} for part in parts[1:]]
    assert homes[0] & homes[1] == set()
    assert parts == divide_cases(rows, 0, shown=False)
    assert parts != divide_cases(rows, 1, shown=False)
    with pytest.raises(paw.OptionError, match="2 inputs at least, and there is 1"):
        divide_cases([Case("a", "b"), Case("a", "c")], 0, shown=False)


def test_a_case_that_is_shown_judges_nothing():
    rows = [Case(f"text {n}", "ab"[n % 2]) for n in range(40)]
    parts = divide_cases(rows, 0, shown=True)
    assert (len(parts.shots), len(parts.choosing), len(parts.rest)) == (5, 15, 20)
    assert Counter(case.output for case in parts.shots).most_common(1)[0][1] == 3
    assert {*parts.shots, *parts.choosing, *parts.rest} == {*rows}


def mixed(said: dict, a: int, b: int, both: int) -> list[Case]:
    """Cases of which programs a and b alone get so many right, and both the others."""
    (_, first), (_, second) = said["a"], said["b"]
    rows = list(zip(INPUTS, first, second, strict=False))
    split = [row for row in rows if row[1] != row[2]][: a + b]
    same = [row for row in rows if row[1] == row[2]][:both]
    assert len(split) + len(same) == a + b + both
    right = [1] * a + [2] * b + [1] * both
    return [Case(row[0], row[n]) for row, n in zip(split + same, right, strict=True)]


@pytest.mark.parametrize(
    ("a", "b", "both", "place"),
    [
        (3, 3, 20, 0),  # equal: the first
        (3, 4, 20, 1),
        (4, 3, 20, 0),
        (0, 5, 5, 0),  # few cases: 5 to none is no more than chance (p = 6 %)
        (0, 6, 5, 1),  # 6 to none is more (p = 3 %)
        (2, 9, 8, 0),
    ],
)
def test_the_first_stands_until_a_later_one_is_better(said, a, b, both, place):
    rows = mixed(said, a, b, both)
    assert (len(rows) < FEW) == (both < 20)
    programs = [said["a"][0], said["b"][0]]
    with paw.Interpreter.load(str(interpreter("qwen3"))) as runner:
        found, scores = choose_program(runner, programs, rows, [], quiet)
    assert found == place
    assert scores == pytest.approx([(a + both) / len(rows), (b + both) / len(rows)])


@pytest.mark.parametrize("order", ["abc", "bca", "cab", "ba"])
def test_without_cases_the_one_that_most_agree_with_is_chosen(said, order):
    inputs, answers = INPUTS[:40], [said[name][1][:40] for name in order]
    with paw.Interpreter.load(str(interpreter("qwen3"))) as runner:
        programs = [said[name][0] for name in order]
        place, scores = choose_program(runner, programs, [], inputs, quiet)
    # Of three, one agrees with most wherever one of the other two says the same; of two, the first
    # is the majority.
    others = [[said for k, said in enumerate(answers) if k != n] for n in range(len(answers))]
    agrees = [
        sum(any(each[i] == own[i] for each in rest) for i in range(40)) / 40
        for own, rest in zip(answers, others, strict=True)
    ]
    expected = agrees if len(order) == 3 else [1.0, agrees[1]]
    assert scores == pytest.approx(expected)
    assert place == expected.index(max(expected))


def test_inputs_of_specs_and_pseudo_programs_are_what_candidates_agree_on():
    wanted = Compilation(f"{TASK}\nInput: a picnic\nOutput: down", output=LABELS)
    choice = choose(compiler(ScriptedWriter()), wanted, 3)
    assert (choice.by, choice.num_judged, choice.report) == ("agreement", 3, None)
    assert choice.chosen.score == max(one.score or 0 for one in choice.candidates)


# What is drawn.


def test_each_wording_asks_for_the_same_shape():
    for text in INSTRUCTIONS:
        last = text[text.rindex("[PSEUDO_PROGRAM]\nTask") :]
        example = check(last[: last.index("[END_PSEUDO_PROGRAM]") + 20], ROOM)
        assert "[END_PSEUDO_PROGRAM]" in text.replace(example, "")
        assert "Return ONLY one of:" in text.replace(example, "")
        assert "250 words" in text
    assert len({*INSTRUCTIONS}) == len(INSTRUCTIONS) >= 4


def test_a_sampled_answer_repeats_with_its_seed(tmp_path):
    model = chat.ChatModel(random_model(tmp_path / "model"))
    asked = [{"role": "user", "content": "disk full"}]

    def answers(**options: object) -> list[str]:
        return [model.answer(asked, 12, lambda text: False, **options) for _ in range(2)]

    greedy, sampled = answers(), answers(temperature=1.0, seed=3)
    assert len({*greedy}) == len({*sampled}) == 1
    assert len({*greedy, *sampled, *answers(temperature=1.0, seed=4)}) == 3
    assert len({*answers(temperature=1.0)}) == 2


def test_what_was_sampled_is_kept_apart_from_what_was_not(tmp_path):
    sound = PSEUDO_PROGRAM
    writer = PseudoCompiler(scripted_model(tmp_path / "model", sound))
    heard: list[str] = []
    wordings = len(INSTRUCTIONS)
    for draw in (Draw(), Draw(1), Draw(wordings), Draw(1, seed=7), Draw(1), Draw()):
        writer.write("Say yes.", ROOM, heard.append, draw)
    assert heard.count("writing the pseudo-program") == 4  # the last two were written before
    assert len(list((settings.cache_dir() / "pseudo-programs").glob("*.txt"))) == 4
    hashes = [writer.record(draw)["instruction_sha256"] for draw in (Draw(), Draw(1))]
    assert len({*hashes}) == 2
    assert writer.record(Draw(wordings))["temperature"] > 0
    assert "temperature" not in writer.record()


def test_an_author_s_own_instruction_is_the_only_wording(tmp_path):
    path = random_model(tmp_path / "model")
    own = {
        PseudoCompiler(path, "Write one.").record(Draw(n))["instruction_sha256"] for n in range(5)
    }
    ours = {PseudoCompiler(path).record(Draw(n))["instruction_sha256"] for n in range(5)}
    assert (len(own), len(ours)) == (1, len(INSTRUCTIONS))


# The compiler without a pseudo-compiler.


def test_without_a_model_candidates_vary_what_the_prompt_shows():
    spec = "Triage.\nInput: a\nOutput: down\nInput: b\nOutput: ALERT"
    shots = tuple(Case(f"shot {n}", LABELS.labels[n % 2]) for n in range(6))
    draws = [Draw(n, 0, LABELS.labels, shots) for n in range(40)]
    written = [SpecWriter().write(spec, ROOM, draw=draw) for draw in draws]
    assert written[0] == write_pseudo_program(spec)
    assert written == [SpecWriter().write(spec, ROOM, draw=draw) for draw in draws]
    assert len({*written}) > 30
    assert all(text.startswith("[PSEUDO_PROGRAM]\nTask: Triage.") for text in written)
    assert {text.count("Input: shot") for text in written} == {0, 1, 2, 3, 4}
    assert {text.count("Input: a") for text in written} == {0, 1}
    named = [text for text in written if "down, ALERT" in text or "ALERT, down" in text]
    assert 20 < len(named) < 40
    for text in written:
        for case in shots:
            assert f"Input: {case.input}\n" not in text or (
                f"Input: {case.input}\nOutput: {case.output}\n" in text
            )


def test_a_trained_compiler_s_candidates_show_cases(tmp_path):
    base = toy.write_base(tmp_path / "base")
    toy.train(base, tmp_path / "out")
    loaded = paw.Compiler.load(str(tmp_path / "out"), interpreter=str(base))
    function = toy.HELD_OUT[0]
    wanted = Compilation(function.specs[0], output=paw.Labels(("1", "0")))
    choice = choose(loaded, wanted, 5, cases=function.cases)
    parts = divide_cases(function.cases, 0, shown=True)
    assert choice.num_judged == len(parts.choosing)
    texts = [one.compilation.pseudo_program or "" for one in choice.candidates]
    assert texts[0] == write_pseudo_program(function.specs[0])
    assert len({*texts}) == 5
    assert any("Input: " in text for text in texts)
    judged = {case.input for case in (*parts.choosing, *parts.rest)}
    assert not any(f"Input: {text}\n" in each for text in judged for each in texts)
    program = choice.chosen.compilation.program
    assert program
    assert program.output.priors  # of this prompt
