"""How often a method is right: exact match, both sides stripped, with Wilson's 95 % interval.

All methods of a study answer the same rows. An answer that failed (an input beyond the window,
a spec that could not be compiled) is wrong. Groups are by category where the data has one,
otherwise by kind of output, which is derived from the outputs (`tasks.Task.kind`), and always by
length of the input. With a positive label there are precision, recall and F1; undefined is null.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from paw_mlx.benchmarks import machine, methods
from paw_mlx.benchmarks import noise as noises
from paw_mlx.benchmarks.answers import Answers, Unkept
from paw_mlx.benchmarks.methods import Job, Lab, Method, Tuned
from paw_mlx.benchmarks.tasks import Row, Task
from paw_mlx.benchmarks.worker import reason
from paw_mlx.errors import PawError
from paw_mlx.wheels import Progress, quiet

VERSIONS = ("paw_mlx", "mlx", "mlx_lm")  # of which answers are, as the machine's card has them
_Z = 1.959964  # of the normal distribution, 95 % in the middle
_LENGTHS = ((100, "short"), (400, "medium"))  # characters of an input, below
_MOST_FUNCTIONS = 20  # that get groups of their own
_MOST_TOKENS = 512
_ALL = "tuned-all"


class Judged(NamedTuple):
    """An answer beside what is right, both stripped; None if there is no answer."""

    expected: str
    answer: str | None

    @property
    def correct(self) -> bool:
        return self.answer == self.expected


@dataclass(frozen=True)
class Study:
    """What is asked: methods, on functions, under specs as they are (None) and noisy ones."""

    tasks: Sequence[Task]
    methods: Sequence[str]
    noises: Sequence[str | None] = (None,)
    positive: str | None = None
    seed: int = 0


def run(
    study: Study, lab: Lab, answers: Answers, progress: Progress = quiet
) -> list[dict[str, Any]]:
    """Ask what is not answered yet, and judge. The rows of a report, method by method.

    A method that cannot run, or dies as libraries do (of too little memory, say), is a row that
    says why; Unkept if answers cannot be written down.
    """
    rows: list[dict[str, Any]] = []
    for name in study.methods:
        for noise in study.noises:
            try:
                rows += _rows(study, name, noise, lab, answers, progress)
            except Unkept:
                raise
            except (PawError, RuntimeError, MemoryError) as error:
                rows.append(
                    {"method": name, "noise": noise, "group": "all", "skipped": reason(error)}
                )
    return rows


def settings(study: Study, lab: Lab) -> dict[str, Any]:
    """What answers depend on, so that a file of answers tells whether it can be gone on with."""
    options = lab.options
    learns = any(map(methods.needs_training, study.methods))
    compiles, prompts = "program" in study.methods, "baseline" in study.methods
    compiler, pseudo_compiler = lab.compilers if compiles else (None, None)
    card = machine.card()
    rows = json.dumps([[task.spec, task.test, task.train] for task in study.tasks])
    return {
        "seed": study.seed,
        "functions": len(study.tasks),
        "rows": sum(len(task.test) for task in study.tasks),
        "data": hashlib.sha256(rows.encode()).hexdigest()[:16],
        "interpreter": lab.base,
        "weights": lab.fingerprint[:16],
        "steps": options.steps if learns else None,
        "fixed": lab.fixed.digest() if lab.fixed else None,
        "baseline": methods.named(options.baseline) if prompts else None,
        "compiler": compiler,
        "pseudo_compiler": pseudo_compiler,
    } | {key: card[key] for key in VERSIONS}


def commonest(tasks: Iterable[Task]) -> float:
    """The accuracy of always giving each function's commonest output: what a method has to beat."""
    tasks = list(tasks)
    counts = [Counter(row.output.strip() for row in task.test) for task in tasks]
    return sum(max(count.values()) for count in counts) / sum(map(Counter.total, counts))


def wilson(correct: int, num: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, z2 = correct / num, _Z * _Z
    middle = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = _Z / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num * num))
    return max(0.0, middle - half), min(1.0, middle + half)


def scores(judged: Sequence[Judged], positive: str | None = None) -> dict[str, Any]:
    """Accuracy with its interval, and of a positive label precision, recall and F1."""
    num, correct = len(judged), sum(one.correct for one in judged)
    low, high = wilson(correct, num)
    found = {"num": num, "correct": correct, "accuracy": correct / num, "low": low, "high": high}
    if failed := sum(one.answer is None for one in judged):
        found["failed"] = failed
    if positive is None:
        return found
    right = sum(one.expected == one.answer == positive for one in judged)
    said = sum(one.answer == positive for one in judged)
    there = sum(one.expected == positive for one in judged)
    return found | {
        "precision": right / said if said else None,
        "recall": right / there if there else None,
        "f1": 2 * right / (said + there) if said + there else None,
    }


def groups(tasks: Sequence[Task]) -> Iterator[tuple[Task, Row, list[str]]]:
    """Every row to test, with the groups that it belongs to."""
    categories = any(row.category for task in tasks for row in task.test)
    several = 1 < len(tasks) <= _MOST_FUNCTIONS
    for task in tasks:
        for row in task.test:
            kind = f"category: {row.category}" if categories else f"kind: {task.kind}"
            own = [f"function: {task.name}"] if several else []
            yield task, row, ["all", kind, f"length: {length(row.input)}", *own]


def length(text: str) -> str:
    """Whether an input is short (under 100 characters), medium (under 400) or long."""
    return next((name for limit, name in _LENGTHS if len(text) < limit), "long")


def _rows(
    study: Study, name: str, noise: str | None, lab: Lab, answers: Answers, progress: Progress
) -> list[dict[str, Any]]:
    """One method under one noise: a row for each group; none if no noise could reach it."""
    way = methods.method(name, lab, answers)
    if noise and not way.sees_spec:
        return []
    jobs = [Job(task, _spec(task, noise, study.seed), _limit(task, lab)) for task in study.tasks]
    try:
        _ask(way, name, noise, jobs, answers, progress)
    finally:
        way.close()
    by_group: dict[str, list[Judged]] = {}
    for task, row, names in groups(study.tasks):
        record = answers.find(name, noise, task.name, row.input)
        assert record is not None
        for group in names:
            by_group.setdefault(group, []).append(_judged(row, record["answer"]))
    rows = [
        {"method": name, "noise": noise, "group": group} | scores(judged, study.positive)
        for group, judged in sorted(by_group.items(), key=lambda pair: _order(pair[0]))
    ]
    seconds = way.seconds(jobs)
    if seconds is not None:
        rows[0]["seconds"] = seconds
    if name != _ALL and _ALL in study.methods and isinstance(way, Tuned) and way.learns_all(jobs):
        rows[0]["same_as"] = _ALL
    return rows


def _ask(
    way: Method,
    name: str,
    noise: str | None,
    jobs: Sequence[Job],
    answers: Answers,
    progress: Progress,
) -> None:
    """Ask what has no answer yet; keep each as it comes."""

    def is_open(job: Job, row: Row) -> bool:
        return answers.find(name, noise, job.task.name, row.input) is None

    todo = [job for job in jobs if any(is_open(job, row) for row in job.task.test)]
    if not todo:
        return
    way.prepare(todo, len(jobs))
    for job in todo:
        rows = [row for row in job.task.test if is_open(job, row)]
        progress(f"{name}{f', {noise}' if noise else ''}: {len(rows)} rows of {job.task.name}")
        outputs = way.answers(job, [row.input for row in rows])
        for row, output in zip(rows, outputs, strict=True):
            failed = isinstance(output, PawError)
            answer = None if failed else str(output)
            record = {"method": name, "noise": noise, "function": job.task.name}
            record |= {"input": row.input, "expected": row.output, "answer": answer}
            record |= {"correct": _judged(row, answer).correct}
            answers.add(record | ({"error": str(output)} if failed else {}))


def _judged(row: Row, answer: str | None) -> Judged:
    return Judged(row.output.strip(), None if answer is None else answer.strip())


def _spec(task: Task, noise: str | None, seed: int) -> str:
    if noise is None:
        return task.spec
    keep = task.outputs if task.kind == "closed label" else ()
    return noises.noisy(task.spec, noise, seed, keep)


def _limit(task: Task, lab: Lab) -> int:
    """Output tokens at most: a quarter more than the longest that is right, and eight."""
    longest = max(lab.tokens(output) for output in task.outputs)
    return min(_MOST_TOKENS, longest + longest // 4 + 8)


def _order(group: str) -> tuple[int, int, str]:
    """All, categories, kinds, lengths from short to long, functions."""
    what, _, rest = group.partition(": ")
    lengths = ("short", "medium", "long")
    place = ("all", "category", "kind", "length", "function").index(what)
    return place, lengths.index(rest) if what == "length" else 0, rest
