"""A program on every row of a Ray Dataset: actors of Ray Data's own pool, each with one base."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from ...annotations import output_of, retype
from ...errors import FormatError
from ...output import Regex, read_record
from ...profiles import base_name
from ...program import Program
from ...runner import Options
from ..flow import outcomes
from ..journal import Gain
from ..row import Added, check_probable, choose_field
from .actor import Message, load_base, read_program
from .cluster import library
from .places import Place, plan
from .programs import Programs
from .runner import RayRunner, base_of

if TYPE_CHECKING:
    from ...interpreter import Interpreter


def map_batches(
    dataset: Any,
    program: str | PathLike[str] | Program,
    options: Options | None = None,
    *,
    field: str | None = None,
    output_field: str = "output",
    probability_field: str | None = None,
    num_workers: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    batch_size: int = 128,
    labels: object = None,
    schema: object = None,
    regex: str | re.Pattern[str] | Regex | None = None,
    threshold: float | None = None,
    otherwise: str | None = None,
    interpreter: str | None = None,
    bits: int | None = None,
    group_size: int = 64,
    strict: bool = False,
    offline: bool = False,
) -> Any:
    """Return a Dataset with a program's outputs beside its rows, which keep their order.

    Rows gain what `paw-mlx map` gives a table: `output_field` (text, JSON's text, or null),
    `probability_field` of a label if it is named, and `error` ("code: message", or null). `field`
    holds the input; None is `input`, `text`, or the only one.

    `num_workers` actors hold the base: None is one for each GPU, or for each node where none has
    any. Each takes `num_cpus` and `num_gpus`: None is its part of the smallest node, but for a CPU
    that is left to who reads. Four batches of `batch_size` rows are computed at once. The other
    keywords and the errors are those of `paw_mlx.function`: one actor tries the base here and now.
    """
    output = output_of(labels, schema, regex)
    programs = Programs()
    made = retype(programs.load(program, offline=offline), output, threshold, otherwise)
    if probability_field:
        check_probable(made.output)
    names = {"field": field, "output": output_field, "probability": probability_field}
    if columns := dataset.columns(fetch_if_missing=False):
        _choose_names(columns, names)
    base = base_of(interpreter or base_name(made.interpreter), bits, group_size, offline)
    place, num_actors = _plan(num_workers, num_cpus, num_gpus)
    with closing(RayRunner([place], base, programs)) as runner:
        runner.check(made, strict=strict)
    told = {
        "base": base,
        "share": place.share,
        "data": [programs.put(made)[1]],
        "output": made.output.record(),
        "options": asdict(options or Options()),
        "names": names,
    }
    return _map(dataset, told, place, num_actors, batch_size)


class RowMapper:
    """What Ray Data's actors do: tables in, tables with outputs out."""

    def __init__(
        self,
        base: Message,
        share: int,
        data: Sequence[Any],
        output: Message,
        options: Message,
        names: Mapping[str, Any],
    ) -> None:
        self._base, self._share, self._data = base, share, data
        self._output, self._names = read_record(output), names
        self._options = Options(**options)
        self._lock = threading.Lock()
        self._loaded: tuple[Interpreter, Program] | None = None

    async def __call__(self, table: Any) -> Any:
        """Return a table with what its rows gain; Ray Data has four of them in work at once."""
        return await asyncio.to_thread(self._map, table)

    def _map(self, table: Any) -> Any:
        import pyarrow as pa

        field, added = _choose_names(table.column_names, self._names)
        gains = self._run(field, table.column(field).to_pylist())
        outputs = pa.array([gain.output for gain in gains], pa.string())
        table = table.append_column(added.output, outputs)
        if added.probability:
            shares = pa.array([gain.probability for gain in gains], pa.float64())
            table = table.append_column(added.probability, shares)
        errors = pa.array([gain.error for gain in gains], pa.string())
        return table.append_column(added.error, errors)

    def _run(self, field: str, values: Sequence[Any]) -> list[Gain]:
        """Return what each input's row gains."""
        interpreter, program = self._load()
        fault = FormatError(f"the field {field!r} is no text")
        rows = ((None, value if isinstance(value, str) else fault) for value in values)
        found = outcomes(interpreter, program, rows, self._options, batch_size=len(values) or None)
        return [Gain.of(outcome.answer) for outcome in found]

    def _load(self) -> tuple[Interpreter, Program]:
        """Load base and program, once: not as Ray makes this, which would try again and again."""
        with self._lock:
            if self._loaded is None:
                program = replace(read_program(self._data), output=self._output)
                self._loaded = load_base(self._base, self._share), program
            return self._loaded


def _choose_names(columns: Sequence[str], names: Mapping[str, Any]) -> tuple[str, Added]:
    """Return which column holds the input, and the names of those that are added."""
    field = choose_field(names["field"], columns)
    added = Added.to(columns, names["output"], False, names["probability"])
    if clash := added.clash(columns, "the dataset"):
        raise clash
    return field, added


def _map(dataset: Any, told: Message, place: Place, num_actors: int, batch_size: int) -> Any:
    """Return a Dataset that `RowMapper`s, which are told that, make of another, in its order."""
    mapped = dataset.map_batches(
        RowMapper,
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=library().data.ActorPoolStrategy(size=num_actors),
        fn_constructor_kwargs=told,
        **place.resources,
    )
    mapped.context.execution_options.preserve_order = True
    return mapped


def _plan(
    num_workers: int | None, num_cpus: float | None, num_gpus: float | None
) -> tuple[Place, int]:
    """Return what each actor takes of any node, and how many there are."""
    places = plan(library().nodes(), num_workers)
    if any(place.num_gpus for place in places) and num_gpus != 0:
        places = [place for place in places if place.num_gpus]
    if num_cpus is None:
        num_cpus = max(0.0, min(place.num_cpus for place in places) - 1)
    if num_gpus is None:
        num_gpus = min(place.num_gpus for place in places)
    share = max(place.share for place in places)
    return Place(None, num_cpus, num_gpus, share), num_workers or len(places)
