"""What accuracy is measured on: functions, each a spec with rows to test and rows to learn from.

    fuzzybench[/SPLIT]  the verified test of the paper, from the hub; splits test and test_clean
    bgl, clinc          in the folder that PAW_MLX_EVAL_DATA names
    a file              parquet, jsonl or csv with the columns spec, input and output (category
                        if it has one), or a log whose first field is its truth, as Loghub's BGL
    a folder            intents_train.jsonl and intents_test.jsonl, as CLINC

Rows to learn from never have an input that is tested. Of a log, half of the lines are tested;
no line is in both halves, but kinds of message recur, as they do in a real log.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from paw_mlx import hub, settings
from paw_mlx.cases import json_line, numbered_lines, read_cases
from paw_mlx.errors import FormatError, HubError, NotFound, OptionError, listed
from paw_mlx.hub import client

FUZZYBENCH = "yuntian-deng/fuzzy_bench_verified"
SPLITS = ("test", "test_clean")
BGL_SPEC = (
    "Decide whether a line of a supercomputer's system log reports a fault that an operator must "
    "look into. ALERT for failing hardware, lost connections and programs that the system could "
    "not start or had to kill; QUIET for what the machine corrected, or only notes. "
    "Return ONLY one of: ALERT, QUIET"
)
CLINC_SPEC = "Name the intent of what somebody says to a voice assistant. Return ONLY one of: "
_COLUMNS = ("spec", "input", "output")
_LABEL_WORDS = 4


class Row(NamedTuple):
    """An input, what is right for it, and its category where the file has one."""

    input: str
    output: str
    category: str | None = None


@dataclass(frozen=True)
class Task:
    """One function: its spec, the rows to test, and those to learn from (inputs all different).

    `kind` is what its outputs are, by their looks: `JSON`, `closed label` or `free text`.
    """

    spec: str
    kind: str
    test: tuple[Row, ...]
    train: tuple[Row, ...] = ()

    @cached_property
    def name(self) -> str:
        """The spec's first words and, since specs may begin alike, a hash of it."""
        words = " ".join(self.spec.split()[:6])
        return f"{words} ({hashlib.sha256(self.spec.encode()).hexdigest()[:6]})"

    @cached_property
    def outputs(self) -> list[str]:
        """The outputs that are known, stripped, without repeats."""
        return sorted({row.output.strip() for row in (*self.test, *self.train)})


def kind_of(spec: str, outputs: Sequence[str]) -> str:
    """What kind of outputs these are, rows' outputs with their repeats.

    Labels are a few words on one line, and the spec names them all or they repeat: half as many
    as rows at most.
    """
    distinct = {output.strip() for output in outputs}
    if all(_is_json(output) for output in distinct):
        return "JSON"
    few = len(distinct) <= len(outputs) / 2
    named = all(output.lower() in spec.lower() for output in distinct)
    short = all(0 < len(output.split()) <= _LABEL_WORDS for output in distinct)
    lines = any("\n" in output for output in distinct)
    return "closed label" if short and not lines and (few or named) else "free text"


def load(
    reference: str,
    *,
    train: Path | None = None,
    halve: bool = False,
    seed: int = 0,
    offline: bool = False,
) -> list[Task]:
    """The functions of a data set, in its order.

    `train` is a file of rows to learn from, in the same form. Where a data set has none,
    `halve` sets half of each function's rows apart for that. NotFound, FormatError, HubError
    or OptionError.
    """
    path = _find(reference, offline or settings.offline())
    if train and (path.is_dir() or path.suffix == ".log"):
        raise OptionError(f"{reference} has rows to learn from, and takes no others")
    if path.is_dir():
        return [_clinc(path)]
    if path.suffix == ".log":
        return [_bgl(path, seed)]
    tasks = _grouped(read_rows(path))
    if train:
        known = {task.spec: task.test for task in _grouped(read_rows(train))}
        return [_apart(task.spec, task.test, known.get(task.spec, ())) for task in tasks]
    return halved(tasks, seed) if halve else tasks


def halved(tasks: Iterable[Task], seed: int) -> list[Task]:
    """Functions with half of their rows to learn from, where they have none."""
    return [task if task.train else _halved(task.spec, task.test, seed) for task in tasks]


def source(reference: str) -> str:
    """A reference as reports name it: a file without its folders."""
    return reference if _is_fuzzybench(reference) else Path(reference).name


def sample(
    tasks: Sequence[Task], functions: int | None, inputs: int | None, seed: int
) -> list[Task]:
    """Draw functions, and rows to test of each; the rows to learn from stay. None takes all."""
    if any(num is not None and num < 1 for num in (functions, inputs)):
        raise OptionError("functions and inputs must be at least 1")
    chosen = _drawn(tasks, functions, random.Random(seed))
    return [
        replace(task, test=_drawn(task.test, inputs, _chance(task.spec, seed))) for task in chosen
    ]


def shots(task: Task, num: int | None, seed: int) -> list[Row]:
    """Rows to learn from: `num` of each label, of a function without labels `num` in all.

    None takes all. Fewer where there are no more; fewer are always among more.
    """
    rows = list(task.train)
    _chance(task.spec, seed).shuffle(rows)
    if num is None or task.kind != "closed label":
        return rows[:num]
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        by_label.setdefault(row.output.strip(), []).append(row)
    chosen = {row for label in by_label.values() for row in label[:num]}
    return [row for row in rows if row in chosen]


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The specs and rows of a parquet, jsonl or csv file; FormatError says which row is none, or
    that there are no rows."""
    readers = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _csv}
    if path.suffix not in readers:
        raise OptionError(
            f"{path} is none of {listed([*readers, '.log'])}",
            hint="Rows need the columns spec, input and output.",
        )
    where = None
    for where, record in readers[path.suffix](path):
        values = [record.get(column) for column in _COLUMNS]
        if not all(isinstance(value, str) for value in values):
            raise FormatError(f"{path}, {where}: a row needs the texts {', '.join(_COLUMNS)}")
        category = record.get("category")
        spec, text, output = map(str, values)
        yield spec, Row(text, output, None if category in (None, "") else str(category))
    if where is None:
        raise FormatError(f"{path} holds no rows")


def _is_fuzzybench(reference: str) -> bool:
    return reference.partition("/")[0] == "fuzzybench"


def _find(reference: str, offline: bool) -> Path:
    """The path that a reference means; what is on the hub is fetched."""
    if _is_fuzzybench(reference):
        return _fuzzybench(reference.partition("/")[2] or "test", offline)
    known = {"bgl": "loghub/bgl_dev.log", "clinc": "clinc"}
    path = hub.local(reference) or Path(reference)
    if reference in known:
        folder = settings.eval_data()
        if folder is None:
            raise NotFound(
                f"where is {reference}? PAW_MLX_EVAL_DATA is not set",
                hint="Set it to the folder of evaluation data, or give a path.",
            )
        path = folder / known[reference]
    if not path.exists():
        raise NotFound(f"no such file or folder: {path}", hint="Or: fuzzybench, bgl, clinc.")
    return path


def _fuzzybench(split: str, offline: bool) -> Path:
    if split not in SPLITS:
        raise OptionError(f"FuzzyBench has the splits {listed(SPLITS)}, and no {split!r}")
    repo = client.Repo(FUZZYBENCH, file=f"data/{split}-00000-of-00001.parquet")
    if found := client.cached_file(repo, "dataset"):
        return found
    if offline:
        raise NotFound(f"offline, and {FUZZYBENCH} is not on this machine")
    try:
        return client.download_file(repo, "dataset")
    except (HubError, NotFound) as error:
        error.add_note(f"Download the parquet file of {FUZZYBENCH} by hand, and give its path.")
        raise


def _clinc(folder: Path) -> Task:
    train, test = (
        [Row(*case) for case in read_cases(folder / f"intents_{part}.jsonl")]
        for part in ("train", "test")
    )
    labels = sorted({row.output for row in train})
    return _apart(CLINC_SPEC + ", ".join(labels), test, train)


def _bgl(path: Path, seed: int) -> Task:
    rows = []
    for number, line in numbered_lines(path, "lines"):
        truth, _, text = line.strip().partition(" ")
        if not text:
            raise FormatError(f"{path}, line {number}: there is nothing after its truth, {truth!r}")
        rows.append(Row(text, "QUIET" if truth == "-" else "ALERT"))
    return _halved(BGL_SPEC, _distinct(rows), seed)


def _grouped(rows: Iterable[tuple[str, Row]]) -> list[Task]:
    """Rows by their spec, in the order of the file."""
    by_spec: dict[str, list[Row]] = {}
    for spec, row in rows:
        by_spec.setdefault(spec, []).append(row)
    return [_task(spec, _distinct(rows)) for spec, rows in by_spec.items()]


def _apart(spec: str, test: Iterable[Row], train: Iterable[Row]) -> Task:
    """A task whose rows to learn from are none of those that are tested."""
    tested = _distinct(test)
    inputs = {row.input.strip() for row in tested}
    return _task(spec, tested, tuple(r for r in _distinct(train) if r.input.strip() not in inputs))


def _halved(spec: str, rows: tuple[Row, ...], seed: int) -> Task:
    """Half of the rows to test, the larger; half of each output's, so that both have rare ones."""
    chance, by_output = _chance(spec, seed), dict[str, list[Row]]()
    for row in rows:
        by_output.setdefault(row.output, []).append(row)
    train = {row for same in by_output.values() for row in chance.sample(same, len(same) // 2)}
    rest = [row for row in rows if row not in train]
    train |= set(chance.sample(rest, len(rows) // 2 - len(train)))
    return _task(
        spec, tuple(r for r in rows if r not in train), tuple(r for r in rows if r in train)
    )


def _task(spec: str, test: tuple[Row, ...], train: tuple[Row, ...] = ()) -> Task:
    return Task(spec, kind_of(spec, [row.output for row in (*test, *train)]), test, train)


def _distinct(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The first row of each input."""
    seen: dict[str, Row] = {}
    for row in rows:
        seen.setdefault(row.input.strip(), row)
    return tuple(seen.values())


def _drawn(items: Sequence[Any], num: int | None, chance: random.Random) -> tuple[Any, ...]:
    """So many of the items, in their order."""
    if num is None or num >= len(items):
        return tuple(items)
    return tuple(items[i] for i in sorted(chance.sample(range(len(items)), num)))


def _chance(spec: str, seed: int) -> random.Random:
    """Chance that is a spec's own: its rows do not hang on which other specs there are."""
    return random.Random(hashlib.sha256(f"{seed}\0{spec}".encode()).digest())


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


_Records = Iterator[tuple[str, Mapping[str, Any]]]


def _parquet(path: Path) -> _Records:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise OptionError(
            "reading parquet needs pyarrow, which is not installed",
            hint="pip install 'paw-mlx[bench]'",
        ) from error
    try:
        names = parquet.read_schema(path).names
        wanted = [name for name in (*_COLUMNS, "category") if name in names]
        rows = parquet.read_table(path, columns=wanted).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise FormatError(f"cannot read {path} as parquet: {error}") from error
    return ((f"row {number}", row) for number, row in enumerate(rows, 1))


def _jsonl(path: Path) -> _Records:
    for number, line in numbered_lines(path, "rows"):
        value = json_line(path, number, line)
        yield f"line {number}", value if isinstance(value, dict) else {}


def _csv(path: Path) -> _Records:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for record in reader:
                yield f"line {reader.line_num}", record
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"cannot read {path} as csv: {error}") from error
