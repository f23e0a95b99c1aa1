"""A Ray Dataset gains the outputs that `map` gives here, row for row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray_clusters
from limits import limited
from ray_clusters import ray

import paw_mlx as paw
from paw_mlx import formats
from paw_mlx.errors import FieldError
from paw_mlx.rows.ray import map_batches

LABELS = ["down", "full", "quiet"]
LONG = "x" * 900
# Ray warns of what it does itself.
pytestmark = pytest.mark.filterwarnings(r"ignore:.use_\w+. is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """What would wait for good fails."""
    with limited(120):
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ray_clusters.write_home(tmp_path_factory.mktemp("ray"))


@pytest.fixture(scope="module")
def here(home: Path) -> Iterator[paw.Interpreter]:
    with paw.Interpreter.load(str(home / "base")) as interpreter:
        yield interpreter


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[None]:
    with ray_clusters.one_node(home):
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield


def rows(num: int) -> list[dict[str, Any]]:
    """Rows of several types, the first slow, one of them too long, one without a text."""
    texts: list[Any] = [f"the disk is full {i % 50}" for i in range(num)]
    texts[:100] = [f"{'spring picnic ' * 8}{i}" for i in range(100)]
    texts[3], texts[7] = LONG, None
    return [{"id": i, "text": text, "share": i / 7} for i, text in enumerate(texts)]


def expected(fn: paw.Function, table: list[dict[str, Any]], **options: Any) -> list[Any]:
    texts = ["" if row["text"] is None else row["text"] for row in table]
    return list(fn.map(texts, on_error="return", **options))


def test_outputs_and_errors_are_those_of_map_in_their_order(
    cluster: None, here: paw.Interpreter, home: Path
) -> None:
    table = rows(2000)
    data = ray.data.from_arrow(pa.Table.from_pylist(table)).repartition(16)
    mapped = map_batches(
        data, home / "a.paw", paw.Options(max_tokens=3), interpreter=str(home / "base"),
        num_workers=2, num_cpus=0.5,
    )  # fmt: skip
    found = mapped.take_all()
    fn = here.function(formats.load(home / "a.paw"))
    assert [{name: row[name] for name in table[0]} for row in found] == table
    for row, value in zip(found, expected(fn, table, max_tokens=3), strict=True):
        if row["text"] is None:
            assert (row["output"], row["error"]) == (
                None,
                "FormatError: the field 'text' is no text",
            )
        elif isinstance(value, paw.PawError):
            assert (row["output"], row["error"]) == (None, f"InputTooLong: {value}")
        else:
            assert (row["output"], row["error"]) == (value, None)
    assert len({row["output"] for row in found}) > 10
    types = {"id": pa.int64(), "text": pa.string(), "share": pa.float64()}
    gained = {"output": pa.string(), "error": pa.string()}
    assert dict(zip(mapped.schema().names, mapped.schema().types, strict=True)) == types | gained


def test_labels_bring_their_probabilities(cluster: None, here: paw.Interpreter, home: Path) -> None:
    table = [{"line": f"the server is down {i}", "error": i} for i in range(40)]
    mapped = map_batches(
        ray.data.from_items(table), home / "a.paw", field="line", output_field="said",
        probability_field="p", labels=LABELS, threshold=0.4, interpreter=str(home / "base"),
    )  # fmt: skip
    fn = here.function(formats.load(home / "a.paw"), labels=LABELS, threshold=0.4)
    found = mapped.take_all()
    assert [row["error"] for row in found] == list(range(40))
    assert [row["said_error"] for row in found] == [None] * 40
    for row in found:
        decision = fn.decide(row["line"])
        assert row["said"] == decision.value
        assert row["p"] == pytest.approx(decision.probability, abs=1e-5)


def test_json_is_text(cluster: None, home: Path) -> None:
    data = ray.data.from_items([{"text": f"the disk {i}"} for i in range(8)])
    schema = {"enum": [1, {"n": 333}]}
    mapped = map_batches(data, home / "a.paw", schema=schema, interpreter=str(home / "base"))
    assert {row["output"] for row in mapped.take_all()} <= {"1", '{"n": 333}'}


def test_what_cannot_be_is_said_before_anything_runs(cluster: None, home: Path) -> None:
    data = ray.data.from_items([{"text": "the disk"}])
    with pytest.raises(paw.HubError, match=r"on the node .*offline"):
        map_batches(data, home / "a.paw", interpreter="smollm2-135m", offline=True)
    with pytest.raises(paw.OptionError, match="a probability is a label's"):
        map_batches(data, home / "a.paw", probability_field="p", interpreter=str(home / "base"))
    with pytest.raises(FieldError, match="no field 'line': the input has text"):
        map_batches(data, home / "a.paw", field="line", interpreter=str(home / "base"))
    with pytest.raises(paw.OptionError, match="a field 'text' already"):
        map_batches(data, home / "a.paw", output_field="text", interpreter=str(home / "base"))
