"""How often a method is right, as `evaluation` judges: exact match, both sides stripped.

All methods of a study answer the same examples. An answer that failed (an input beyond the
window, a spec that could not be compiled) is wrong. Groups are by category where the data has
one, otherwise by kind of output, which is derived from the outputs (`tasks.Task.kind`), and always
by length of the input. With a positive label there are precision, recall and F1; undefined is
null.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from paw_mlx import machine
from paw_mlx.benchmarks.accuracy import methods
from paw_mlx.benchmarks.accuracy import noise as noises
from paw_mlx.benchmarks.accuracy.answers import Answers, Unkept
from paw_mlx.benchmarks.accuracy.methods import Lab, Method, Question, Tuned
from paw_mlx.benchmarks.accuracy.tasks import Example, Task
from paw_mlx.benchmarks.report.report import reason
from paw_mlx.errors import PawError
from paw_mlx.evaluation import Judged, Report
from paw_mlx.runner import DEFAULT_MAX_TOKENS

VERSIONS = ("paw_mlx", "mlx", "mlx_lm")  # of which answers are, as the machine's card has them
_LENGTHS = ((100, "short"), (400, "medium"))  # characters of an input, below
_MOST_FUNCTIONS = 20  # that get groups of their own
_ALL = "tuned-all"
_SORTS = (
    *("all", "category: ", "kind: "),
    *("length: short", "length: medium", "length: long", "function: "),
)


@dataclass(frozen=True)
class Study:
    """What is asked: methods, on functions, under specs as they are (None) and noisy ones."""

    tasks: Sequence[Task]
    methods: Sequence[str]
    noises: Sequence[str | None] = (None,)
    positive: str | None = None
    seed: int = 0


def run(study: Study, lab: Lab, answers: Answers) -> list[dict[str, Any]]:
    """Ask what is not answered yet, and judge. Return the rows of a report, method by method.

    A method that cannot run, or dies as libraries do (of too little memory, say), is a row that
    says why; Unkept if answers cannot be written down.
    """
    rows: list[dict[str, Any]] = []
    for name in study.methods:
        for noise in study.noises:
            try:
                rows += _rows(study, name, noise, lab, answers)
            except Unkept:
                raise
            except (PawError, RuntimeError, MemoryError) as error:
                row = {"method": name, "noise": noise, "group": "all", "skipped": reason(error)}
                rows.append(row)
    return rows


def settings(study: Study, lab: Lab) -> dict[str, Any]:
    """Return what answers depend on, so that a file of answers tells whether to go on with it."""
    learns = any(map(methods.needs_training, study.methods))
    compiler, pseudo_compiler = lab.compilers if "program" in study.methods else (None, None)
    prompts, card = "baseline" in study.methods, machine.card()
    rows = json.dumps([[task.spec, task.test, task.train] for task in study.tasks])
    return {
        "seed": study.seed,
        "functions": len(study.tasks),
        "rows": sum(len(task.test) for task in study.tasks),
        "data": hashlib.sha256(rows.encode()).hexdigest()[:16],
        "interpreter": lab.base,
        "weights": lab.interpreter.base.fingerprint[:16],
        "steps": lab.options.steps if learns else None,
        "fixed": lab.fixed.digest() if lab.fixed else None,
        "baseline": methods.name_of(lab.options.baseline) if prompts else None,
        "compiler": compiler,
        "pseudo_compiler": pseudo_compiler,
    } | {key: card[key] for key in VERSIONS}


def commonest(tasks: Iterable[Task]) -> float:
    """Return the accuracy of always giving each function's commonest output: what to beat."""
    counts = [Counter(example.output.strip() for example in task.test) for task in tasks]
    return sum(max(count.values()) for count in counts) / sum(map(Counter.total, counts))


def scores(judged: Sequence[Judged], positive: str | None = None) -> dict[str, Any]:
    """Return accuracy with its interval, and of a positive label precision, recall and F1."""
    report = Report(judged)
    found = {"num": len(judged), "correct": report.num_correct, "accuracy": report.accuracy}
    found |= dict(zip(("low", "high"), report.interval, strict=True))
    if report.num_failed:
        found["failed"] = report.num_failed
    return found if positive is None else found | asdict(report.label(positive))


def groups(tasks: Sequence[Task]) -> Iterator[tuple[Task, Example, list[str]]]:
    """Return every example to test, with the groups that it belongs to."""
    categories = any(example.category for task in tasks for example in task.test)
    several = 1 < len(tasks) <= _MOST_FUNCTIONS
    for task in tasks:
        for example in task.test:
            kind = f"category: {example.category}" if categories else f"kind: {task.kind}"
            size = next((name for end, name in _LENGTHS if len(example.input) < end), "long")
            own = [f"function: {task.name}"] if several else []
            yield task, example, ["all", kind, f"length: {size}", *own]


def _rows(
    study: Study, name: str, noise: str | None, lab: Lab, answers: Answers
) -> list[dict[str, Any]]:
    """One method under one noise: a row for each group; none if no noise could reach it."""
    method = methods.method(name, lab, answers)
    if noise and not method.sees_spec:
        return []
    questions = []
    for task in study.tasks:
        spec = noises.noisy(task.spec, noise, study.seed, task.labels)
        questions.append(Question(task, spec, max_tokens(task, lab)))
    try:
        _ask((name, noise), method, questions, answers)
    finally:
        method.close()
    by_group: dict[str, list[Judged]] = {}
    for task, example, names in groups(study.tasks):
        record = answers.records[name, noise, task.name, example.input]
        answer = PawError(record["error"]) if record["answer"] is None else record["answer"]
        for group in names:
            by_group.setdefault(group, []).append(Judged.of(example.case, answer))

    def place(group: str) -> tuple[int, str]:
        return next(i for i, sort in enumerate(_SORTS) if group.startswith(sort)), group

    rows = [
        {"method": name, "noise": noise, "group": group} | scores(by_group[group], study.positive)
        for group in sorted(by_group, key=place)
    ]
    seconds = method.seconds(questions)
    if seconds is not None:
        rows[0]["seconds"] = seconds
    beside_all = name != _ALL and _ALL in study.methods
    if beside_all and isinstance(method, Tuned) and method.learns_all(questions):
        rows[0]["same_as"] = _ALL
    return rows


def _ask(
    way: tuple[str, str | None], method: Method, questions: Sequence[Question], answers: Answers
) -> None:
    """Ask what has no answer yet; keep each as it comes."""
    (name, noise), known = way, answers.records
    open_ = {
        q: [e for e in q.task.test if (name, noise, q.task.name, e.input) not in known]
        for q in questions
    }
    todo = {question: examples for question, examples in open_.items() if examples}
    if todo:
        method.prepare([*todo], len(questions))
    for question, examples in todo.items():
        function, under = question.task.name, f", {noise}" if noise else ""
        method.lab.progress(f"{name}{under}: {len(examples)} rows of {function}")
        outputs = method.answers(question, [example.input for example in examples])
        for example, output in zip(examples, outputs, strict=True):
            failed = isinstance(output, PawError)
            record = {
                "method": name,
                "noise": noise,
                "function": function,
                "input": example.input,
                "expected": example.output,
                "answer": None if failed else output,
                "correct": Judged.of(example.case, output).correct,
            }
            answers.add(record | ({"error": str(output)} if failed else {}))


def max_tokens(task: Task, lab: Lab) -> int:
    """Return output tokens at most: a quarter more than the longest that is right, and eight."""
    longest = max(lab.count_tokens(output) for output in task.outputs)
    return min(DEFAULT_MAX_TOKENS, longest + longest // 4 + 8)
