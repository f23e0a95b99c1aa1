"""Rows of Parquet files in and out: what is read and written, as pyarrow and pandas see it."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from parquet_rows import TEXTS, every_type, read, rows_of, write
from pyarrow import parquet as pq
from row_files import objects, table
from shell import Paw, paw
from sqlite_rows import shout

from paw_mlx.errors import FieldError, FormatError, NotFound, OptionError
from paw_mlx.rows.parquet import groups
from paw_mlx.rows.target import part_of

OUTPUTS = ["PICNIC", None, None, "THE DISK", "PICNIC", "世界"]
ERRORS = [None, "InputTooLong: too long", "FormatError: the field 'text' is no text", *[None] * 3]
GAINED = [{"output": one, "error": other} for one, other in zip(OUTPUTS, ERRORS, strict=True)]


@pytest.mark.parametrize("rows", [1, 2, 6])
@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd"])
def test_every_type_stays_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, codec: str
) -> None:
    monkeypatch.setattr(groups, "_GROUP_ROWS", 4)  # so that row groups end elsewhere
    given, out = every_type(), tmp_path / "out.parquet"
    file = write(tmp_path / "in.parquet", given, row_group_size=rows, compression=codec)
    shout(file, out, field="text")
    given, found = pq.read_table(file), pq.read_table(out)
    own = found.select(given.column_names)
    assert own.schema.equals(given.schema, check_metadata=True)
    assert own.combine_chunks().equals(given.combine_chunks())
    assert found.select(["output", "error"]).to_pylist() == GAINED
    assert {str(field.type) for field in list(found.schema)[-2:]} == {"string"}
    chunk = pq.ParquetFile(out).metadata.row_group(0).column(0)
    assert chunk.compression == {"none": "UNCOMPRESSED"}.get(codec, codec.upper())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


@pytest.mark.skipif(not hasattr(pa, "json_"), reason="an older pyarrow lacks these types")
def test_types_that_newer_files_have_stay_too(tmp_path: Path) -> None:
    given = pa.table(
        {
            "text": pa.array(["a", None, "b"], pa.string_view()),
            "uuid": pa.array([b"0123456789abcdef", None, b"\0" * 16], pa.uuid()),
            "json": pa.array(['{"a": 1}', None, "2"], pa.json_()),
        }
    )
    file = write(tmp_path / "in.parquet", given)
    shout(file, tmp_path / "out.parquet", field="text")
    before, after = pq.read_table(file), pq.read_table(tmp_path / "out.parquet")
    assert after.select(before.column_names).equals(before)
    shout(file, tmp_path / "out.jsonl", field="text")
    first = objects((tmp_path / "out.jsonl").read_bytes())[0]
    assert first["uuid"] == "30313233-3435-3637-3839-616263646566"
    assert first["json"] == '{"a": 1}'


def test_all_values_become_json(tmp_path: Path) -> None:
    file = write(tmp_path / "in.parquet", every_type(), row_group_size=4)
    shout(file, tmp_path / "out.jsonl", field="text")
    rows = objects((tmp_path / "out.jsonl").read_bytes())
    wanted = {
        "text": "picnic", "i8": 1, "u64": 2**64 - 1, "f16": 1.5, "f64": 0.1, "bool": True,
        "zoned": "1970-01-01T09:00:00.000000001+09:00", "local": "1970-01-01T00:00:00.000001",
        "far": f"{2**62} ms", "date": "2024-02-29", "time": "00:00:00.000000001",
        "duration": "-PT1.5S", "decimal": "1.10", "wide": f"1{'0' * 50}.00", "binary": "/wA=",
        "fixed": "YWI=", "large": "é", "list": [1, None], "pair": [1, 2], "deep": [["a"], None],
        "struct": {"a": 1, "b": ["cQ=="]}, "map": {"k": 1}, "numbered": [[1, "x"], [2, None]],
        "category": "x", "nothing": None, "output": "PICNIC",
    }  # fmt: skip
    assert rows[0] == wanted
    assert [*rows[0]] == [*wanted]
    assert rows[1]["zoned"] == "2023-11-15T07:13:20.123456789+09:00"
    assert (rows[1]["f64"], rows[1]["error"]["code"]) == ("inf", "InputTooLong")
    assert rows[2]["date"] == "0001-01-01"
    assert all(rows[1][name] is None for name in ("i8", "f16", "struct", "map", "wide"))


def test_each_format_says_the_same_of_the_same_rows(tmp_path: Path) -> None:
    columns = {"id": range(6), "text": TEXTS, "n": [1, None, 3, 4, 5, 6]}
    file = write(tmp_path / "in.parquet", columns)
    for suffix in ("parquet", "csv", "jsonl", "txt"):
        shout(file, tmp_path / f"out.{suffix}")
    gained = [{name: row[name] or "" for name in row} for row in GAINED]
    sheet = table((tmp_path / "out.csv").read_bytes())
    assert [{name: row[name] for name in ("output", "error")} for row in sheet] == gained
    assert [row["n"] for row in sheet] == ["1", "", "3", "4", "5", "6"]
    lines = objects((tmp_path / "out.jsonl").read_bytes())
    assert [row.get("output") for row in lines] == OUTPUTS
    assert [row["n"] for row in lines] == [1, None, 3, 4, 5, 6]
    said = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    assert said == [output or "" for output in OUTPUTS]


def test_numbers_stay_numbers_and_what_is_mixed_becomes_text(tmp_path: Path) -> None:
    columns = {
        "text": ["a", "b", "c"],
        "int": [1, None, -(2**63)],
        "float": [1, 2.5, None],
        "bool": [True, None, False],
        "mixed": [1, "x", None],
        "nested": [{"a": [1, "é"]}, [], None],
        "too big": [2**63, 1, None],
        "inexact": [2**60, 0.5, 1],
        "truth and number": [True, 1, 2],
        "none": [None, None, None],
        "half": ["\ud83d", None, "x"],
    }
    file, out = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    rows = [{name: column[i] for name, column in columns.items()} for i in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shout(file, out, field="text")
    found = pq.read_table(out)
    types = {field.name: str(field.type) for field in found.schema}
    texts = [name for name in columns if name not in ("int", "float", "bool")]
    assert types == {
        **dict.fromkeys([*texts, "output", "error"], "string"),
        "int": "int64", "float": "double", "bool": "bool",
    }  # fmt: skip
    for name in ("text", "int", "float", "bool", "none"):
        assert found[name].to_pylist() == columns[name]
    assert found["mixed"].to_pylist() == ["1", "x", None]
    assert found["nested"].to_pylist() == ['{"a": [1, "é"]}', "[]", None]
    assert found["too big"].to_pylist() == [str(2**63), "1", None]
    assert found["inexact"].to_pylist() == [str(2**60), "0.5", "1"]
    assert found["truth and number"].to_pylist() == ["true", "1", "2"]
    assert found["half"].to_pylist() == ["?", None, "x"]
    assert found["output"].to_pylist() == ["A", "B", "C"]


def test_a_sheets_fields_are_text_and_failed_rows_stay_whole(tmp_path: Path) -> None:
    file, out = tmp_path / "in.csv", tmp_path / "out.pq"
    file.write_text('id,text\n007,picnic\n8,wrong\n9,a,b\n"open\n', encoding="utf-8")
    shout(file, out)
    assert [[*row.values()] for row in read(out)] == [
        ["007", "picnic", "PICNIC", None],
        ["8", "wrong", None, "InputTooLong: too long"],
        ["9,a,b", None, None, "FormatError: 3 fields, and the header has 2"],
        ['"open', None, None, "FormatError: no valid csv (unexpected end of data)"],
    ]
    (tmp_path / "in.txt").write_text("picnic\nserver\n")
    shout(tmp_path / "in.txt", tmp_path / "lines.parquet")
    assert [row["input"] for row in read(tmp_path / "lines.parquet")] == ["picnic", "server"]


def test_bytes_of_sqlite_stay_bytes(tmp_path: Path) -> None:
    from sqlite_rows import write as make

    db = make(tmp_path / "a.db", "CREATE TABLE t (text TEXT, data BLOB)",
              "INSERT INTO t VALUES (?, ?)", rows=[("a", b"\0\xff"), ("b", None)])  # fmt: skip
    shout(db, tmp_path / "out.parquet", field="text")
    assert pq.read_table(tmp_path / "out.parquet")["data"].to_pylist() == [b"\0\xff", None]
    assert str(pq.read_schema(tmp_path / "out.parquet").field("data").type) == "binary"


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_no_rows_give_no_rows(tmp_path: Path, suffix: str) -> None:
    schema = every_type().schema
    with pq.ParquetWriter(tmp_path / "none.parquet", schema):
        pass
    write(tmp_path / "empty.parquet", schema.empty_table())
    for name in ("none", "empty"):
        out = tmp_path / f"{name}-out.{suffix}"
        assert shout(tmp_path / f"{name}.parquet", out, field="text") == []
        if suffix == "parquet":
            assert pq.read_table(out).num_rows == 0
            assert pq.read_schema(out).names == [*schema.names, "output", "error"]
        elif suffix == "csv":
            assert next(csv.reader([out.read_text()]))[-1] == "error"
        else:
            assert out.read_bytes() == b""


def test_pandas_reads_what_it_wrote(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "text": ["a", "b", "c"],
            "when": pandas.to_datetime(["2024-01-01", None, "2024-02-29"]).tz_localize("UTC"),
            "size": pandas.Categorical(["m", "s", "m"], ["s", "m", "l"], ordered=True),
            "whole": pandas.array([1, None, 3], dtype="Int64"),
        },
        index=pandas.Index(["x", "y", "z"], name="key"),
    )
    frame.to_parquet(tmp_path / "in.parquet")
    shout(tmp_path / "in.parquet", tmp_path / "out.parquet", field="text")
    found = pandas.read_parquet(tmp_path / "out.parquet")
    pandas.testing.assert_frame_equal(found[[*frame.columns]], frame)
    assert found["output"].to_list() == ["A", "B", "C"]
    # Columns that are called by numbers: pandas would take the new names for such, too.
    numbered = pandas.DataFrame([["a", 1], ["b", 2]])
    pq.write_table(pa.Table.from_pandas(numbered), tmp_path / "n.parquet")
    shout(tmp_path / "n.parquet", tmp_path / "n-out.parquet", field="0")
    assert pandas.read_parquet(tmp_path / "n-out.parquet")["output"].to_list() == ["A", "B"]


def test_what_others_say_of_all_columns_does_not_hide_the_new_ones(tmp_path: Path) -> None:
    spark = "org.apache.spark.sql.parquet.row.metadata"
    given = pa.table({"text": ["a"]}).replace_schema_metadata(
        {spark: "{}", "pandas": "no json", "org.apache.spark.version": "4"}
    )
    shout(write(tmp_path / "in.parquet", given), tmp_path / "out.parquet")
    assert pq.read_schema(tmp_path / "out.parquet").metadata == {b"org.apache.spark.version": b"4"}


def test_several_files_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in" / "2024").mkdir(parents=True)
    given = every_type()
    for name, begin, end in (("a", 0, 2), ("b", 2, 2), ("2024/c", 2, 5), ("z", 5, 6)):
        write(tmp_path / "in" / f"{name}.parquet", given.slice(begin, end - begin))
    monkeypatch.chdir(tmp_path)
    order = [2, 3, 4, 0, 1, 5]
    shout("in", tmp_path / "out.parquet", field="text", file_field="file")
    found = pq.read_table(tmp_path / "out.parquet")
    assert rows_of(found.select(given.column_names)) == rows_of(given.take(order))
    assert found["output"].to_pylist() == [OUTPUTS[i] for i in order]
    files = [*["2024/c"] * 3, *["a"] * 2, "z"]
    assert found["file"].to_pylist() == [f"in/{name}.parquet" for name in files]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": pa.array([1], pa.int32()), "text": ["b"]}, "the column 'id' is int32 in "),
        ({"id": ["1"], "text": ["b"]}, "the column 'id' is string in "),
        ({"text": ["b"]}, " differ from those of "),
        ({"text": ["b"], "id": [1]}, "in their order"),
        ({"id": [1], "text": [2]}, "the field 'text' is of type int64, and an input is text"),
    ],
)
def test_files_that_differ_are_refused_before_a_row(
    tmp_path: Path, columns: dict[str, Any], said: str
) -> None:
    one = write(tmp_path / "a.parquet", {"id": [1], "text": ["a"]})
    other = write(tmp_path / "b.parquet", columns)
    with pytest.raises(FieldError, match=said) as found:
        shout([one, other], tmp_path / "out.parquet")
    assert str(other) in str(found.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_an_input_is_text_of_any_kind(tmp_path: Path) -> None:
    texts = pa.array(["a", None, "wrong"])
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        file = write(tmp_path / "in.parquet", {"input": texts.cast(kind)})
        assert shout(file, tmp_path / "out.parquet") == ["a", "wrong"]
        assert read(tmp_path / "out.parquet")[1]["error"].endswith("'input' is no text")
    others = {"binary": [b"a"], "int64": [1], "list<": [["a"]], "null": [None]}
    for named, column in others.items():
        file = write(tmp_path / "in.parquet", {"input": column})
        with pytest.raises(FieldError, match=f"'input' is of type {named}"):
            shout(file, tmp_path / "out.parquet")


def test_an_input_that_is_no_utf8_fails_alone(tmp_path: Path) -> None:
    data = pa.array([b"picnic", b"a\xff", b"b"])
    text = pa.Array.from_buffers(pa.string(), 3, data.buffers())
    file = write(tmp_path / "in.parquet", {"text": text})
    for out in (tmp_path / "out.parquet", tmp_path / "out.jsonl"):
        assert shout(file, out) == ["picnic", "b"]
    lines = objects((tmp_path / "out.jsonl").read_bytes())
    assert lines[1]["error"]["message"] == "not UTF-8: byte 0xff at 1"
    assert lines[1]["text"] == "a\ufffd"


def test_columns_are_called_whatever_they_are(tmp_path: Path) -> None:
    columns = {"a": [{"b": "x"}], "a.b": ["picnic"], "": [1], "größe": [2]}
    file = write(tmp_path / "in.parquet", columns)
    for suffix in ("parquet", "jsonl"):
        assert shout(file, tmp_path / f"out.{suffix}", field="a.b") == ["picnic"]
    assert read(tmp_path / "out.parquet") == [
        {"a": {"b": "x"}, "a.b": "picnic", "": 1, "größe": 2, "output": "PICNIC", "error": None}
    ]


def test_names_that_cannot_be_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "in.parquet", {"text": ["a"], "output": ["b"]})
    out = tmp_path / "out.parquet"
    with pytest.raises(OptionError, match="has a field 'output' already"):
        shout(file, out, field="text")
    shout(file, out, field="text", output_field="said")
    assert read(out) == [{"text": "a", "output": "b", "said": "A", "error": None}]
    with pytest.raises(FieldError, match="there is no field 'x': the input has text, output"):
        shout(file, out, field="x", output_field="said")
    with pytest.raises(OptionError, match="written when all are done, in order"):
        shout(file, out, field="text", output_field="said", unordered=True)
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(FieldError, match="2 fields are called 'text'"):
        shout(write(tmp_path / "twice.parquet", twice), tmp_path / "o.parquet")
    with pytest.raises(OptionError, match="is the input, too"):
        shout(file, file, field="text", output_field="said")
    with pytest.raises(NotFound, match=r"cannot read .*no\.parquet"):
        shout(tmp_path / "no.parquet", out)


def test_a_pipe_is_no_parquet(
    run: Paw, folder: Path, options: list[object], tmp_path: Path
) -> None:
    file = write(tmp_path / "in.parquet", {"text": ["picnic"]})
    done = paw("map", folder / "one.paw", "--format", "parquet", *options, stdin=file.read_bytes())
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard input cannot be read as Parquet")
    os.mkfifo(tmp_path / "pipe.parquet")
    done = run(tmp_path / "pipe.parquet")
    assert (done.returncode, "is no regular file" in done.stderr) == (1, True)


def test_without_pyarrow_one_sentence_says_what_brings_it(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "in.parquet", {"text": ["picnic"]})
    (tmp_path / "in.txt").write_text("picnic\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for words in ([file], [tmp_path / "in.txt", "-o", tmp_path / "out.parquet"]):
        done = run(*words)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr == (
            f"error: {words[-1]} needs pyarrow, which is not installed\n"
            "hint: `pip install 'paw-mlx[tables]'` brings it.\n"
        )


def test_the_command_prints_json_lines_and_fails_by_row(run: Paw, tmp_path: Path) -> None:
    file = write(tmp_path / "in.parquet", {"id": [1, 2], "text": ["picnic", "x" * 900]})
    done = run(file)
    rows = objects(done.stdout)
    assert (done.returncode, "1 of 2 rows failed" in done.stderr) == (1, True)
    assert [row["id"] for row in rows] == [1, 2]
    assert rows[1]["error"]["code"] == "InputTooLong"
    out = tmp_path / "out.parquet"
    assert run(file, "-o", out).returncode == 1
    assert [row["output"] for row in read(out)] == [rows[0]["output"], None]
    assert read(out)[1]["error"].startswith("InputTooLong: ")


def test_a_file_that_changes_meanwhile_loses_nothing(tmp_path: Path) -> None:
    file, out = write(tmp_path / "in.parquet", {"text": ["a", "b"]}), tmp_path / "out.parquet"
    shout(file, out, most=1)
    part = part_of(out).read_bytes()
    write(file, {"text": ["a", "c"]})
    with pytest.raises(OptionError, match="has changed since"):
        shout(file, out, resume=True)
    assert part_of(out).read_bytes() == part


def test_a_file_that_changes_amid_the_run_is_found_before_it_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paw_mlx.rows.part import Part

    file, out = write(tmp_path / "in.parquet", {"text": ["a", "b"]}), tmp_path / "out.parquet"
    finish = Part.finish

    def late(self: Part) -> None:
        write(file, {"text": ["a", "b", "c"]})
        finish(self)

    monkeypatch.setattr(Part, "finish", late)
    with pytest.raises(FormatError, match=f"{file} has changed since it was read") as found:
        shout(file, out)
    assert found.value.hints == [f"{part_of(out)} holds 2 rows: go on with --resume."]
    assert not out.exists()
    assert part_of(out).read_bytes().count(b"\n") == 2


def test_row_groups_hold_a_bounded_number_of_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_GROUP_BYTES", 100_000)
    columns = {
        "text": [f"t{i}" for i in range(300)],
        "data": [os.urandom(2000) for _ in range(300)],
    }
    file = write(tmp_path / "in.parquet", columns)
    shout(file, tmp_path / "out.parquet", field="text")
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"text": f"t{i}", "data": "x" * 2000}) + "\n" for i in range(300))
    )
    monkeypatch.setattr("paw_mlx.rows.parquet.alone._BATCH_CHARS", 50_000)
    shout(tmp_path / "in.jsonl", tmp_path / "lines.parquet", field="text")
    for name in ("out", "lines"):
        meta = pq.ParquetFile(tmp_path / f"{name}.parquet").metadata
        sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        assert sum(sizes) == 300
        assert 3 <= len(sizes) <= 8
    found = pq.read_table(tmp_path / "out.parquet", page_checksum_verification=True)
    assert found["data"].to_pylist() == columns["data"]
