"""What accuracy is measured on: functions, each a spec with examples to test and to learn from.

    fuzzybench[/SPLIT]  the verified test of the paper, from the hub; splits test and test_clean
    functions           those of `functions/test.jsonl`: written by hand, and kept for tests
    bgl, clinc          in the folder that PAW_MLX_EVAL_DATA names
    a file              parquet, jsonl or csv with the columns spec, input and output (category
                        if it has one), or a log whose first field is its truth, as Loghub's BGL
    a folder            intents_train.jsonl and intents_test.jsonl, as CLINC

Examples to learn from never have an input that is tested. Of a log, half of the lines are
tested; no line is in both halves, but kinds of message recur, as they do in a real log.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from paw_mlx import hub, settings
from paw_mlx.cases import Case, read_cases
from paw_mlx.corpus import read_corpus
from paw_mlx.errors import FormatError, HubError, NotFound, OptionError, listed
from paw_mlx.hub import client
from paw_mlx.rows.jsonl import numbered_lines, read_jsonl

FUZZYBENCH = "yuntian-deng/fuzzy_bench_verified"
SPLITS = ("test", "test_clean")
BGL_SPEC = (
    "Decide whether a line of a supercomputer's system log reports a fault that an operator must "
    "look into. ALERT for failing hardware, lost connections and programs that the system could "
    "not start or had to kill; QUIET for what the machine corrected, or only notes. "
    "Return ONLY one of: ALERT, QUIET"
)
CLINC_SPEC = "Name the intent of what somebody says to a voice assistant. Return ONLY one of: "
FUNCTIONS = Path(__file__).parents[1] / "functions" / "test.jsonl"
_IN_FOLDER = {"bgl": "loghub/bgl_dev.log", "clinc": "clinc"}  # of evaluation data
_COLUMNS = ("spec", "input", "output")
_LABEL_WORDS = 4


class Example(NamedTuple):
    """An input, what is right for it, and its category where the file has one."""

    input: str
    output: str
    category: str | None = None

    @property
    def case(self) -> Case:
        """The same as training and the judge take it."""
        return Case(self.input, self.output)


@dataclass(frozen=True)
class Task:
    """One function: its spec, what to test, and what to learn from (inputs all different).

    `kind` is what its outputs are, by their looks: `JSON`, `closed label` or `free text`.
    """

    spec: str
    kind: str
    test: tuple[Example, ...]
    train: tuple[Example, ...] = ()

    @classmethod
    def of(cls, spec: str, test: Iterable[Example], train: Iterable[Example] = ()) -> Task:
        """Make a task; what is tested is not learned from, and of an input the first counts."""
        tested, learned = _distinct(test), _distinct(train)
        train = tuple(example for text, example in learned.items() if text not in tested)
        test = tuple(tested.values())
        return cls(spec, kind_of(spec, [e.output for e in (*test, *train)]), test, train)

    @cached_property
    def name(self) -> str:
        """The spec's first words and, since specs may begin alike, a hash of it."""
        words = " ".join(self.spec.split()[:6])
        return f"{words} ({hashlib.sha256(self.spec.encode()).hexdigest()[:6]})"

    @cached_property
    def outputs(self) -> list[str]:
        """The outputs that are known, stripped, without repeats."""
        return sorted({example.output.strip() for example in (*self.test, *self.train)})

    @property
    def labels(self) -> Sequence[str]:
        """The outputs, if they are labels."""
        return self.outputs if self.kind == "closed label" else ()

    def halved(self, seed: int) -> Task:
        """Test half, the larger, and learn from the rest; half of each output's examples, so that
        both have rare ones."""
        chance, by_output = own_chance(self.spec, seed), dict[str, list[Example]]()
        for example in self.test:
            by_output.setdefault(example.output, []).append(example)
        train = {e for same in by_output.values() for e in chance.sample(same, len(same) // 2)}
        rest = [example for example in self.test if example not in train]
        train |= set(chance.sample(rest, len(self.test) // 2 - len(train)))
        parts = ([e for e in self.test if (e in train) is learn] for learn in (False, True))
        return Task.of(self.spec, *parts)


def kind_of(spec: str, outputs: Sequence[str]) -> str:
    """Tell what kind of outputs these are, examples' outputs with their repeats.

    Labels are a few words on one line, and the spec names them all or they repeat: half as many
    as examples at most.
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
    """Load the functions of a data set, in its order.

    `train` is a file of examples to learn from, in the same form. Where a data set has none,
    `halve` sets half of each function's apart for that. NotFound, FormatError, HubError
    or OptionError.
    """
    path = _find(reference, offline or settings.offline())
    if train and (path.is_dir() or path.suffix == ".log"):
        raise OptionError(f"{reference} has rows to learn from, and takes no others")
    if path.is_dir():
        return [_read_clinc(path)]
    if path.suffix == ".log":
        return [_read_log(path).halved(seed)]
    known = _by_spec(read_examples(train)) if train else {}
    tasks = [
        Task.of(spec, examples, known.get(spec, ()))
        for spec, examples in _by_spec(_read(reference, path)).items()
    ]
    return halved(tasks, seed) if halve and not train else tasks


def halved(tasks: Iterable[Task], seed: int) -> list[Task]:
    """Return functions with half of their examples to learn from, where they have none."""
    return [task if task.train else task.halved(seed) for task in tasks]


def source(reference: str) -> str:
    """Name a reference as reports do: a file without its folders."""
    return reference if reference.partition("/")[0] == "fuzzybench" else Path(reference).name


def sample(
    tasks: Sequence[Task], functions: int | None, inputs: int | None, seed: int
) -> list[Task]:
    """Draw functions, and examples to test of each; None takes all. What is learned from stays."""
    if any(num is not None and num < 1 for num in (functions, inputs)):
        raise OptionError("functions and inputs must be at least 1")
    return [
        replace(task, test=tuple(draw(task.test, inputs, own_chance(task.spec, seed))))
        for task in draw(tasks, functions, random.Random(seed))
    ]


def shots(task: Task, num: int | None, seed: int) -> list[Example]:
    """Choose what to learn from: `num` of each label, of a function without labels `num` in all.

    None takes all. Fewer where there are no more; fewer are always among more.
    """
    examples = list(task.train)
    own_chance(task.spec, seed).shuffle(examples)
    if num is None or task.kind != "closed label":
        return examples[:num]
    by_label: dict[str, list[Example]] = {}
    for example in examples:
        by_label.setdefault(example.output.strip(), []).append(example)
    chosen = {example for label in by_label.values() for example in label[:num]}
    return [example for example in examples if example in chosen]


def own_chance(spec: str, seed: int) -> random.Random:
    """Return chance that is a spec's own: what is drawn for it hangs on no other spec."""
    return random.Random(hashlib.sha256(f"{seed}\0{spec}".encode()).digest())


def read_examples(path: Path) -> Iterator[tuple[str, Example]]:
    """Read specs and examples of a parquet, jsonl or csv file; FormatError says which row is none,
    or that there are no rows."""
    readers = {".parquet": _read_parquet, ".csv": _read_csv}
    readers[".jsonl"] = lambda path: ((f"line {n}", row) for n, row in read_jsonl(path, "rows"))
    if path.suffix not in readers:
        raise OptionError(
            f"{path} is none of {listed(['.parquet', '.jsonl', '.csv', '.log'])}",
            hint="Rows need the columns spec, input and output.",
        )
    where = None
    for where, record in readers[path.suffix](path):
        values = record if isinstance(record, dict) else {}
        spec, text, output = (values.get(name) for name in _COLUMNS)
        if not (isinstance(spec, str) and isinstance(text, str) and isinstance(output, str)):
            raise FormatError(f"{path}, {where}: a row needs the texts {', '.join(_COLUMNS)}")
        category = values.get("category")
        yield spec, Example(text, output, None if category in (None, "") else str(category))
    if where is None:
        raise FormatError(f"{path} holds no rows")


def _read(reference: str, path: Path) -> Iterator[tuple[str, Example]]:
    """Read specs and examples; a function of the corpus is asked for by the first of its specs."""
    if reference != "functions":
        yield from read_examples(path)
        return
    for function in read_corpus([path]):
        for case in function.cases:
            yield function.specs[0], Example(case.input, case.output, function.kind)


def _find(reference: str, offline: bool) -> Path:
    """The path that a reference means; what is on the hub is fetched."""
    name, _, split = reference.partition("/")
    if name == "fuzzybench":
        return _find_fuzzybench(split or "test", offline)
    if reference == "functions":
        return FUNCTIONS
    path = hub.local(reference) or Path(reference)
    if reference in _IN_FOLDER:
        folder = settings.eval_data()
        if folder is None:
            raise NotFound(
                f"where is {reference}? PAW_MLX_EVAL_DATA is not set",
                hint="Set it to the folder of evaluation data, or give a path.",
            )
        path = folder / _IN_FOLDER[reference]
    if not path.exists():
        raise NotFound(
            f"no such file or folder: {path}", hint="Or: functions, fuzzybench, bgl, clinc."
        )
    return path


def _find_fuzzybench(split: str, offline: bool) -> Path:
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


def _read_clinc(folder: Path) -> Task:
    train, test = (
        [Example(case.input, case.output) for case in read_cases(folder / f"intents_{part}.jsonl")]
        for part in ("train", "test")
    )
    labels = sorted({example.output for example in train})
    return Task.of(CLINC_SPEC + ", ".join(labels), test, train)


def _read_log(path: Path) -> Task:
    examples = []
    for number, line in numbered_lines(path, "lines"):
        truth, _, text = line.strip().partition(" ")
        if not text:
            raise FormatError(f"{path}, line {number}: there is nothing after its truth, {truth!r}")
        examples.append(Example(text, "QUIET" if truth == "-" else "ALERT"))
    return Task.of(BGL_SPEC, examples)


def _by_spec(examples: Iterable[tuple[str, Example]]) -> dict[str, list[Example]]:
    """Examples by their spec, in the order of the file."""
    found: dict[str, list[Example]] = {}
    for spec, example in examples:
        found.setdefault(spec, []).append(example)
    return found


def _distinct(examples: Iterable[Example]) -> dict[str, Example]:
    """The first example of each input, by the input."""
    seen: dict[str, Example] = {}
    for example in examples:
        seen.setdefault(example.input.strip(), example)
    return seen


def draw(items: Sequence[Any], num: int | None, chance: random.Random) -> Sequence[Any]:
    """Draw so many of the items, in their order; None takes all."""
    if num is None or num >= len(items):
        return items
    return [items[i] for i in sorted(chance.sample(range(len(items)), num))]


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


_Records = Iterator[tuple[str, Any]]


def _read_parquet(path: Path) -> _Records:
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


def _read_csv(path: Path) -> _Records:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for record in reader:
                yield f"line {reader.line_num}", record
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"cannot read {path} as csv: {error}") from error
