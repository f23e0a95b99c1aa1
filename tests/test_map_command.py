"""`paw-mlx map`: rows in, the same rows with outputs out, whatever happens in between."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from shell import SCRIPT, Paw, inside, paw, start

from paw_mlx import Function, Interpreter, formats, load
from paw_mlx.cli import lines, sinks
from paw_mlx.cli.lines import open_input
from paw_mlx.cli.rows import Added, reader, writer

WORDS = ["the disk", "server", "picnic", "Friday", "down", "spring", "世界", "all are welcome"]
TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    tiny.write_base(folder / "base", "llama")
    for name, seed in (("one", 1), ("two", 2)):
        program = tiny.program("llama", seed)
        formats.save(program, folder / f"{name}.paw", dtype="f32", profile=tiny.profile("llama"))
    return folder


@pytest.fixture(scope="module")
def fn(folder: Path) -> Iterator[Function]:
    with Interpreter.load(str(folder / "base")) as interpreter:
        yield interpreter.function(load(folder / "one.paw"))


@pytest.fixture
def options(folder: Path) -> list[object]:
    return ["--interpreter", folder / "base", "--max-tokens", 8]


@pytest.fixture
def run(
    folder: Path, options: list[object], monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> Paw:
    """`paw-mlx map one.paw`, in this process."""
    call = inside(monkeypatch, capfdbinary)
    return lambda *words: call("map", folder / "one.paw", *words, *options)


def outputs(fn: Function, texts: list[str]) -> list[str]:
    return [fn(text, max_tokens=8) for text in texts]


def objects(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().splitlines()]


def table(data: bytes, **dialect: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), **dialect))


def test_lines_become_outputs_line_by_line(run: Paw, fn: Function, tmp_path: Path) -> None:
    file = tmp_path / "lines.log"
    file.write_bytes("\ufeffserver server\r\n\n".encode() + "\n".join(TEXTS).encode())
    done = run(file)
    expected = outputs(fn, ["server server", "", *TEXTS])
    assert any("\n" in output for output in expected)
    assert len(set(expected)) > 50
    lines = [output.replace("\r", "\\r").replace("\n", "\\n") for output in expected]
    assert done.stdout.decode().split("\n") == [*lines, ""]
    assert (done.returncode, done.stderr[:10]) == (0, "66 rows in")
    assert "1 repeated" in done.stderr
    run(file, "-o", tmp_path / "out.jsonl")
    assert objects((tmp_path / "out.jsonl").read_bytes()) == [
        {"input": text, "output": output}
        for text, output in zip(["server server", "", *TEXTS], expected, strict=True)
    ]


def test_objects_keep_every_byte_of_their_fields(run: Paw, fn: Function, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '\ufeff{"id": 1.50, "text":"picnic",  "tags": []}\r\n"server"\n\n  \n'
        '{"text": "the \\u0064isk", "x": 1e400 } ',
        encoding="utf-8",
    )
    one, two, three = outputs(fn, ["picnic", "server", "the disk"])
    shown = [json.dumps(output, ensure_ascii=False) for output in (one, two, three)]
    assert run(file).stdout.decode().splitlines() == [
        f'{{"id": 1.50, "text":"picnic",  "tags": [], "output": {shown[0]}}}',
        f'{{"input": "server", "output": {shown[1]}}}',
        f'{{"text": "the \\u0064isk", "x": 1e400, "output": {shown[2]}}}',
    ]
    named = objects(run(file, "--field", "text", "--output-field", "said").stdout)
    assert [row["said"] for row in named] == [one, two, three]


@pytest.mark.parametrize(
    ("text", "head", "first"),
    [
        ('id,text\n1,"a ""b"", c"\n', "id,text,output,error\n", '1,"a ""b"", c",'),
        ("\ufeffid;text\r\n1;picnic\r\n", "\ufeffid;text;output;error\r\n", "1;picnic;"),
        ('"id"|"text"\n"1"|"a\nb\r\nc"\n', '"id"|"text"|"output"|"error"\n', '"1"|"a\nb\r\nc"|"'),
        ('"i, d"\ttext\n1\tpicnic', '"i, d"\ttext\toutput\terror\n', "1\tpicnic\t"),
        ("text\n\npicnic\n", "text,output,error\n", "picnic,"),
    ],
    ids=["comma", "semicolon, CRLF, BOM", "bar, all quoted", "tab, no line end", "one column"],
)
def test_a_csv_stays_as_it_was_and_gains_columns(
    run: Paw, fn: Function, tmp_path: Path, text: str, head: str, first: str
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(text.encode())
    done = run(file)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith(head + first)
    delimiter = next(c for c in ",;|\t" if f"text{c}" in head.replace('"', ""))
    (row,) = table(done.stdout, delimiter=delimiter)
    assert row["output"] == fn(row["text"], max_tokens=8)
    assert row["error"] == ""


def test_a_format_becomes_the_one_that_out_names(run: Paw, fn: Function, tmp_path: Path) -> None:
    rows = [{"id": "1", "text": 'a "b"\nc'}, {"id": "2", "text": "picnic, server"}]
    said = outputs(fn, [row["text"] for row in rows])
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as handle:
        sheet = csv.DictWriter(handle, ["id", "text"])
        sheet.writeheader()
        sheet.writerows(rows)
    for name, read in [
        ("out.jsonl", objects),
        ("out.tsv", lambda data: table(data, delimiter="\t")),
    ]:
        run(file, "-o", tmp_path / name)
        found = read((tmp_path / name).read_bytes())
        assert [row["text"] for row in found] == [row["text"] for row in rows]
        assert [row["output"] for row in found] == said
    run(tmp_path / "out.jsonl", "--output-field", "again", "-o", tmp_path / "back.csv")
    back = table((tmp_path / "back.csv").read_bytes())
    assert [(row["text"], row["again"]) for row in back] == [
        (row["text"], output) for row, output in zip(rows, said, strict=True)
    ]
    run(file, "-o", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text().count("\n") == 2


BAD_JSONL = b"""{"input": "picnic"}
{"input": 5}
{"other": "x"}
{"input": "\xff"}
{"input":
[1]
{"input": "\\ud800"}
{"input": "server", "error": "own"}
{"input": "%s", "error": "own"}
"""


def test_rows_that_fail_are_kept_with_their_error(run: Paw, fn: Function, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(BAD_JSONL % (b"x" * 1000))
    done = run(file)
    found = objects(done.stdout)
    picnic, server = outputs(fn, ["picnic", "server"])
    assert found[0] == {"input": "picnic", "output": picnic}
    assert found[7] == {"input": "server", "error": "own", "output": server}
    messages = [row["error"]["message"] for row in found[1:7]]
    for message, word in zip(
        messages, ["no text", "other", "UTF-8", "JSON", "neither", "Unicode"], strict=True
    ):
        assert word in message
    assert found[8]["error"] == "own"
    assert found[8]["output_error"]["code"] == "InputTooLong"
    assert {row["error"]["code"] for row in found[1:6]} == {"FormatError"}
    assert not any("output" in row for row in (*found[1:7], found[8]))
    assert found[1]["input"] == 5
    assert found[4]["input"] == '{"input":'
    assert done.returncode == 1
    assert "7 of 9 rows failed" in done.stderr


def test_records_that_fail_are_kept_with_their_error(
    run: Paw, fn: Function, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    long = "x" * 1000
    file.write_bytes(f'id,text\n1,picnic\n2\n3,a,b\n4,"a"b\n5,{long}\n6,"open\n7,x'.encode())
    done = run(file)
    found = table(done.stdout)
    assert [row["output"] for row in found] == [fn("picnic", max_tokens=8), *[""] * 5]
    words = [
        "",
        "FormatError: 1 field,",
        "3 fields",
        "no valid csv",
        "InputTooLong: ",
        "no valid csv",
    ]
    for row, word in zip(found, words, strict=True):
        assert word in row["error"]
    assert [row["id"] for row in found] == ["1", "2", "3,a,b", '4,"a"b', "5", '6,"open\n7,x']
    assert (done.returncode, "5 of 6 rows failed" in done.stderr) == (1, True)


def test_lines_that_fail_are_empty_and_said(run: Paw, fn: Function, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes(b"picnic\n\xff\nserver\n" + b"x" * 1000)
    done = run(file)
    picnic, server = outputs(fn, ["picnic", "server"])
    assert done.stdout.decode() == f"{picnic}\n\n{server}\n\n"
    assert "row 2: not UTF-8: byte 0xff at 0\n" in done.stderr
    assert "row 4: " in done.stderr
    done = run(file, "--json")
    *errors, summary = [json.loads(line) for line in done.stderr.splitlines()]
    assert [error["row"] for error in errors] == [2, 4]
    assert (summary["num_rows"], summary["num_failed"], summary["num_before"]) == (4, 2, 0)
    assert errors[1]["error"]["code"] == "InputTooLong"
    assert (done.returncode, done.stdout.decode()) == (1, f"{picnic}\n\n{server}\n\n")


def test_stop_ends_at_the_first_row_that_fails(run: Paw, fn: Function, tmp_path: Path) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    file.write_bytes(b'{"input": "picnic"}\n{"input": 5}\n{"input": "server"}\n')
    done = run(file, "--on-error", "stop", "-o", out)
    assert (done.returncode, out.exists()) == (1, False)
    assert done.stderr.startswith("error: the field 'input' is no text\nhint: It is row 2's")
    assert run(file, "--resume", "-o", out).returncode == 1
    assert [*map(len, objects(out.read_bytes()))] == [2, 2, 2]
    done = run(file, "--on-error", "stop", "--json")
    assert json.loads(done.stderr)["error"]["code"] == "FormatError"
    assert [*map(len, objects(done.stdout))] == [2]


def test_an_overflow_policy_cuts_and_says_how_many(run: Paw, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("picnic\n" + "the disk is full " * 100 + "\n")
    done = run(file, "--overflow", "tail")
    assert done.returncode == 0
    assert "1 cut by" in done.stderr
    (summary,) = objects(run(file, "--overflow", "tail", "--json").stderr.encode())
    assert summary["num_cut"] == 1
    assert f"1 cut by {summary['cut_tokens']:,} tokens" in done.stderr


def test_unordered_rows_carry_their_number(run: Paw, fn: Function, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    long = "x" * 1000  # fails at once, before those that come before it
    file.write_text("".join(json.dumps({"input": text}) + "\n" for text in [*TEXTS, long]))
    found = objects(run(file, "--unordered").stdout)
    assert sorted(row["row"] for row in found) == [*range(1, len(TEXTS) + 2)]
    assert found[-1]["row"] != len(TEXTS) + 1
    for row in (row for row in found if row["input"] != long):
        assert row["input"] == TEXTS[row["row"] - 1]
        assert row["output"] == fn(row["input"], max_tokens=8)


@pytest.mark.parametrize(
    ("name", "text", "words", "code", "message"),
    [
        ("a.jsonl", '{"a": "x", "b": "y"}', [], 2, "--field: the input has a, b"),
        ("a.csv", "a,b\n1,2\n", [], 2, "--field: the input has a, b"),
        ("a.csv", "a,b\n1,2\n", ["--field", "c"], 2, "no field 'c': the input has a, b"),
        ("a.csv", "a,output\n1,2\n", ["--field", "a"], 1, "already"),
        ("a.jsonl", '{"input": "a", "output": 1}', [], 1, "already"),
        ("a.jsonl", '{"input": "a", "row": 1}', ["--unordered"], 1, "already"),
        ("a.csv", "a,a\n1,2\n", ["--field", "a", "-o", "out.jsonl"], 1, "twice"),
        ("a.csv", '"a,b\n1,2\n', [], 1, "no sound header"),
        ("a.txt", "x", ["--unordered"], 2, "--unordered"),
        ("a.txt", "x", ["--field", "a"], 2, "--field"),
        ("a.txt", "x", ["--output-field", "a"], 2, "--output-field"),
        ("a.txt", "x", ["--resume"], 2, "-o OUT"),
        ("a.txt", "x", ["-o", "a.txt"], 1, "is the input, too"),
        ("a.txt", "x", ["-o", "no/such/folder/a.txt"], 1, "cannot write"),
        ("a.txt", "x", ["-o", "/dev/null"], 1, "no regular file"),
        ("a.txt", "x", ["--batch-size", 0], 2, "--batch-size"),
        ("a.txt", "x", ["--overflow", "chunk"], 2, "--overflow"),
        ("a.csv", "\ufeffa".encode("utf-16").decode("latin-1"), [], 1, "UTF-16"),
        ("b.txt", None, [], 1, "cannot read"),
        ("a.jsonl", '"a"', ["--output-field", "row", "--unordered"], 2, "--output-field row"),
        ("a.jsonl", '"a"', ["--output-field", "error"], 2, "--output-field error"),
        ("a.csv", "a,a,b\n1,2,3\n", ["--field", "b", "-o", "out.tsv"], 1, "twice"),
        ("a.json", "[]", [], 1, "a.json is neither text nor JSON lines nor csv"),
        ("a.txt", "x", ["-o", "out.XLSX"], 1, "out.XLSX is neither text"),
    ],
)
def test_a_wrong_call_gets_one_clear_sentence(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, text: str | None, words: list[object], code: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(name).write_bytes(text.encode("latin-1"))
    done = run(name, *words)
    assert (done.returncode, done.stdout) == (code, b"")
    assert message in done.stderr
    assert not [*tmp_path.glob("*.part*")]


def test_a_later_row_that_has_the_outputs_field_fails(
    run: Paw, fn: Function, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"input": "a"}\n{"input": "b", "output": 1}\n{"input": "c"}\n')
    done = run(file)
    one, two, three = objects(done.stdout)
    assert (done.returncode, [one["output"], three["output"]]) == (1, outputs(fn, ["a", "c"]))
    assert two["output"] == 1
    assert two["error"]["message"] == "row 2 has a field 'output' already"


def test_rows_of_jsonl_that_do_not_fit_a_csv_stay_whole(
    run: Paw, fn: Function, tmp_path: Path
) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.csv"
    lines = ['{"id": 1', '{"id": 1, "text": "a"}', '{"id": 2, "text": "b", "more": 3}', '{"x": 1}']
    file.write_text("\n".join(lines))
    assert run(file, "-o", out).returncode == 1
    one, two, three, four = table(out.read_bytes())
    assert list(two) == ["id", "text", "output", "error"]
    assert two == {"id": "1", "text": "a", "output": fn("a", max_tokens=8), "error": ""}
    assert [one["id"], three["id"], four["id"]] == [lines[0], lines[2], lines[3]]
    assert all(row["error"].startswith("FormatError: ") for row in (one, three, four))


def test_a_csv_of_tabs_gets_commas_where_out_says_so(run: Paw, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("id\ttext\n1\tpicnic\n")
    run(tmp_path / "rows.tsv", "-o", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().startswith("id,text,output,error\n1,picnic,")


def test_a_giant_line_is_a_row_that_fails(
    run: Paw, fn: Function, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1 << 17)
    giant, said = "x" * (300 << 10), fn("picnic", max_tokens=8)
    out = tmp_path / "out.jsonl"
    for name, head, form in [
        ("a.txt", "", "%s"),
        ("a.csv", "text\n", "%s"),
        ("a.jsonl", "", '"%s"'),
    ]:
        texts = [form % text for text in ("picnic", giant, "picnic", giant)]
        (tmp_path / name).write_text(head + "\n".join(texts))
        assert run(tmp_path / name, "-o", out).returncode == 1
        rows = objects(out.read_bytes())
        assert [row.get("output") for row in rows] == [said, None, said, None]
        size = len(texts[1])
        assert f"a line of {size + 1:,} bytes, of which 1,024 are" in rows[1]["error"]["message"]
        assert f"a line of {size:,} bytes" in rows[3]["error"]["message"]
        assert len(out.read_bytes()) < 5000


def test_a_return_inside_a_record_is_said_in_words(run: Paw, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text\na\rb\n")
    assert r"(a \r neither in quotes nor at the end" in run(tmp_path / "a.csv").stdout.decode()


def test_options_that_suit_no_input_end_it_before_it_begins(folder: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.txt", 3)
    words = ["--interpreter", folder / "base", "--max-tokens", 1000, "-o", tmp_path / "out.txt"]
    done = paw("map", folder / "one.paw", file, *words)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "1000 output tokens exceed the window of 256" in done.stderr
    assert [*tmp_path.iterdir()] == [file]


def test_a_mark_is_no_part_of_the_input(
    folder: Path, options: list[object], fn: Function, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("picnic", encoding="utf-8-sig")
    words = ["run", folder / "one.paw", "--file", tmp_path / "a.txt", *options]
    assert paw(*words).stdout.decode() == fn("picnic", max_tokens=8) + "\n"


def test_run_says_what_was_cut_when_it_streams(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("the disk is full " * 100)
    words = ["run", folder / "one.paw", "--file", tmp_path / "a.txt", *options]
    told = [paw(*words, "--overflow", "tail", *more) for more in ([], ["--stream"])]
    assert told[0] == told[1]
    assert "tokens of the input were cut\n" in told[0].stderr


def test_no_rows_are_no_error(run: Paw, tmp_path: Path) -> None:
    for name, head in [("a.txt", b""), ("a.jsonl", b""), ("a.csv", b"text,output,error\n")]:
        (tmp_path / name).write_bytes(b"text\n" if head else b"")
        out = tmp_path / f"out-{name}"
        assert run(tmp_path / name, "-o", out).returncode == 0
        assert out.read_bytes() == run(tmp_path / name).stdout == head


# An interrupted run.


def write_rows(file: Path, num_rows: int) -> Path:
    """Rows that vary, some of them the same, some wrong, some that take several lines."""
    texts = [f"{TEXTS[i % 50]}\n{i % 90}" if i % 7 else "x" * 900 for i in range(num_rows)]
    with file.open("w", newline="", encoding="utf-8") as handle:
        if file.suffix == ".csv":
            sheet = csv.writer(handle)
            sheet.writerows([["id", "text"], *([i, text] for i, text in enumerate(texts))])
        elif file.suffix == ".jsonl":
            handle.writelines(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts))
        else:
            handle.writelines(text.replace("\n", " ") + "\n" for text in texts)
    return file


def by_number(file: Path) -> list[Any]:
    data = file.read_bytes()
    rows = objects(data) if file.suffix == ".jsonl" else table(data)
    return sorted(rows, key=lambda row: int(row["row"]))


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        (".txt", []),
        (".jsonl", []),
        (".csv", []),
        (".jsonl", ["--unordered"]),
        (".csv", ["--unordered"]),
    ],
    ids=["lines", "jsonl", "csv", "jsonl unordered", "csv unordered"],
)
def test_killed_and_resumed_is_undisturbed(
    folder: Path, options: list[object], tmp_path: Path, suffix: str, words: list[object]
) -> None:
    file = write_rows(tmp_path / f"rows{suffix}", 150)
    calm, out = tmp_path / f"calm{suffix}", tmp_path / f"out{suffix}"
    command = ["map", folder / "one.paw", file, *words, *options, "--batch-size", 6]
    done = paw(*command, "-o", calm)
    assert (done.returncode, "22 of 150 rows failed" in done.stderr) == (1, True), done.stderr
    part, size = sinks.part_of(out), calm.stat().st_size
    for share in (0.001, 0.3, 0.7):
        with start(*command, "-o", out, "--resume", stdin=None) as process:
            wait_for(process, out, share * size)
            process.kill()
        assert not out.exists()
        assert size > part.stat().st_size > 0
    done = paw(*command, "-o", out, "--resume")
    assert (done.returncode, "22 of 150 rows failed" in done.stderr) == (1, True), done.stderr
    assert "that were there" in done.stderr
    if words:
        assert by_number(out) == by_number(calm)
        assert len({row["row"] for row in by_number(out)}) == 150
    else:
        assert out.read_bytes() == calm.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in (file, calm, out)
    )


@pytest.mark.parametrize(
    ("suffix", "unordered"),
    [(".txt", False), (".jsonl", False), (".jsonl", True), (".csv", False), (".csv", True)],
)
def test_a_part_cut_at_any_byte_goes_on_to_the_same(
    tmp_path: Path, suffix: str, unordered: bool
) -> None:
    rows = [("1", 'a "b",\r\nc'), ("2", "d"), ("3", '"\n'), ("4", ""), ("5", "世界")]
    file, kind = tmp_path / f"rows{suffix}", {".txt": "lines"}.get(suffix, suffix[1:])
    if suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([("id", "text"), *rows])
    else:
        file.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in rows))

    def map_to(out: Path, resume: bool) -> None:
        with open_input(str(file)) as given:
            source = reader(kind, given, None)
            to = writer(kind, source, out, Added.to(source.columns, "output", unordered))
            with contextlib.closing(sinks.Part(out, {}, to, resume)) as part:
                assert (part.path.read_bytes() or b"\n").endswith(b"\n")
                found = [row for row in source if row and row.number not in part.done]
                for row in found[::-1] if unordered else found:
                    part.write(row.number, to.row(row, f'{row.text}", \n\r{row.number}'), False)
                part.finish()

    calm, out = tmp_path / f"calm{suffix}", tmp_path / f"out{suffix}"
    map_to(calm, False)
    whole = calm.read_bytes()
    record = json.dumps({"job": {}, "num_failed": 0, "last_failed": None})
    for end in range(len(whole) + 1):
        sinks.part_of(out).write_bytes(whole[:end])
        out.with_name(f"{out.name}.part.json").write_text(record)
        map_to(out, True)
        if unordered:
            assert by_number(out) == by_number(calm), whole[:end]
        else:
            assert out.read_bytes() == whole, whole[:end]


def wait_for(process: subprocess.Popen[bytes], out: Path, size: float) -> None:
    """Until a process has written more than so many bytes to OUT.part."""
    part = sinks.part_of(out)
    while not (part.exists() and part.stat().st_size > size):
        time.sleep(0.002)
        assert process.poll() is None


def interrupted(run: Paw, monkeypatch: pytest.MonkeyPatch, *words: object, rows: int = 20) -> None:
    """A run that stops, as a kill would, after some rows."""
    write, left = sinks.Part.write, [rows]

    def until(self: sinks.Part, *row: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, *row)

    with monkeypatch.context() as patch:
        patch.setattr(sinks.Part, "write", until)
        assert run(*words).returncode == 130


def test_an_interrupted_run_is_neither_lost_nor_overwritten(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.jsonl", 60), tmp_path / "out.jsonl"
    part = sinks.part_of(out)
    interrupted(run, monkeypatch, file, "-o", out)
    before = part.read_bytes()
    assert before.count(b"\n") == 20
    done = run(file, "-o", out)
    assert (done.returncode, "--resume" in done.stderr) == (1, True)
    assert part.read_bytes() == before
    assert run(file, "-o", out, "--resume").returncode == 1  # rows failed, the first of them before
    assert out.read_bytes().startswith(before)
    whole = out.read_bytes()
    side = sinks.side_of(part)
    side.write_text("left by a kill")
    done = run(file, "-o", out, "--resume")
    assert (done.returncode, "nothing to resume" in done.stderr) == (0, True)
    assert not side.exists()
    os.utime(out, (1, 1))
    done = run(file, "-o", out, "--resume")
    assert (done.returncode, f"{out} is older than {file}" in done.stderr) == (1, True)
    assert run(tmp_path / "no.jsonl", "-o", out, "--resume").returncode == 1
    assert out.read_bytes() == whole
    assert run(file, "-o", out).returncode == 1  # anew
    assert not part.exists()


def test_nothing_done_leaves_nothing_behind(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.csv", 9), tmp_path / "out.csv"
    interrupted(run, monkeypatch, file, "-o", out, rows=0)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_another_jobs_part_is_refused_and_the_difference_said(
    run: Paw, folder: Path, options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.jsonl", 60), tmp_path / "out.jsonl"
    interrupted(run, monkeypatch, file, "-o", out)
    before = sinks.part_of(out).read_bytes()
    (tmp_path / "copy.jsonl").write_bytes(file.read_bytes())
    said = f"error: {sinks.part_of(out)} is of another job: "
    for words, what in [
        ([tmp_path / "copy.jsonl"], f"input was '{file}', now '{tmp_path / 'copy.jsonl'}'"),
        ([file, "--temperature", 1, "--seed", 3], "temperature was 0.0, now 1.0, seed was"),
        ([file, "--output-field", "said"], "output_field was 'output', now 'said'"),
        ([file, "--field", "text"], "field was None, now 'text'"),
        ([file, "--unordered"], "unordered was False, now True"),
        ([file, "--overflow", "tail"], "overflow was 'error', now 'tail'"),
        ([file, "--bits", "8"], "form was "),
    ]:
        done = run(*words, "-o", out, "--resume")
        assert (done.returncode, done.stderr.startswith(said + what)) == (1, True), done.stderr
    tiny.write_base(tmp_path / "base", "llama", seed=5)
    for words, what in [
        ([folder / "two.paw", *options], "program was"),
        ([folder / "one.paw", *options, "--max-tokens", 9], "max_tokens was 8, now 9"),
        ([folder / "one.paw", "--interpreter", tmp_path / "base", "--max-tokens", 8], "base was"),
    ]:
        done = paw("map", *words, file, "-o", out, "--resume")
        assert (done.returncode, done.stderr.startswith(said + what)) == (1, True), done.stderr
    old = file.read_bytes()
    write_rows(file, 61)
    now = f"{said}{file} has changed since: {len(old):,} bytes then, {file.stat().st_size:,} now\n"
    assert run(file, "-o", out, "--resume").stderr.startswith(now)
    file.write_bytes(old.replace(b"picnic", b"PICNIC"))
    assert run(file, "-o", out, "--resume").stderr.startswith(f"{said}{file} has changed since\n")
    side = tmp_path / "out.jsonl.part.json"
    side.write_text("{")
    done = run(file, "-o", out, "--resume")
    assert (done.returncode, "does not say which job" in done.stderr) == (1, True)
    assert sinks.part_of(out).read_bytes() == before


def test_the_same_job_goes_on_whatever_its_files_are_called(
    run: Paw, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.jsonl", 60), tmp_path / "out.jsonl"
    run(file, "-o", tmp_path / "calm.jsonl")
    interrupted(run, monkeypatch, file, "-o", out)
    file.touch()
    for name, there in [("base", folder / "base"), ("rows", file), ("out.jsonl", out)]:
        (tmp_path / "links").mkdir(exist_ok=True)
        (tmp_path / "links" / name).symlink_to(there)
    monkeypatch.chdir(tmp_path / "links")
    words = ["rows", "--format", "jsonl", "-o", "out.jsonl", "--resume"]
    done = paw("map", folder / "one.paw", "--interpreter", "base", "--max-tokens", 8, *words)
    assert "after 20 that were there" in done.stderr
    assert Path("out.jsonl").is_symlink()
    assert out.read_bytes() == (tmp_path / "calm.jsonl").read_bytes()


def test_a_record_that_took_many_with_it_does_not_end_a_csv(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, calm, out = (tmp_path / f"{name}.csv" for name in ("rows", "calm", "out"))
    taken = "".join(f"\n{i},{'x' * 65_000}" for i in range(20))
    file.write_text(f'id,text\n0,picnic\n1,"open{taken}\n' + f"2,server\n3,{'x' * 900}\n" * 20)
    failed = run(file, "-o", calm).stderr.splitlines()[-1]
    assert failed.endswith(" rows failed")
    interrupted(run, monkeypatch, file, "-o", out)
    before = sinks.part_of(out).read_bytes()
    assert len(before) > 1 << 20
    done = run(file, "-o", out, "--resume")
    assert "after 20 that were there" in done.stderr
    assert out.read_bytes() == calm.read_bytes()
    assert done.stderr.splitlines()[-1] == failed


def test_a_damaged_part_is_refused(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.jsonl", 60), tmp_path / "out.jsonl"
    interrupted(run, monkeypatch, file, "-o", out, "--unordered")
    part = sinks.part_of(out)
    part.write_bytes(part.read_bytes() + b"\0\0\n")
    done = run(file, "-o", out, "--unordered", "--resume")
    assert (done.returncode, "is damaged after 20 rows" in done.stderr) == (1, True)
    file, out = write_rows(tmp_path / "rows.csv", 60), tmp_path / "out.csv"
    interrupted(run, monkeypatch, file, "-o", out)
    part = sinks.part_of(out)
    damaged = part.read_bytes().replace(b"0,xxx", b'"0"0,xxx', 1)
    assert damaged != part.read_bytes()
    part.write_bytes(damaged)
    done = run(file, "-o", out, "--resume")
    assert (done.returncode, "is damaged after 0 rows" in done.stderr) == (1, True)
    assert part.read_bytes() == damaged


def test_two_processes_do_not_write_one_file(
    run: Paw, folder: Path, options: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out.txt"
    with start("map", folder / "one.paw", "-", "-o", out, *options) as first:
        assert first.stdin
        first.stdin.write(b"picnic\n")
        first.stdin.flush()
        wait_for(first, out, 0)
        (tmp_path / "in.txt").write_text("server\n")
        for words in ([], ["--resume"]):
            done = run(tmp_path / "in.txt", "-o", out, *words)
            assert done.returncode == 1
            assert done.stderr == f"error: another process is writing {sinks.part_of(out)}\n"
        assert first.communicate(timeout=60)[1].startswith(b"1 row in")
    assert out.read_bytes().count(b"\n") == 1


def test_a_full_disk_is_one_sentence_and_keeps_whole_rows(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.txt", 60), tmp_path / "out.txt"
    note = sinks.Part._note

    def full(self: sinks.Part, last: int | None) -> None:
        if last and last > 20:
            raise OSError(28, "No space left on device")
        note(self, last)

    with monkeypatch.context() as patch:
        patch.setattr(sinks.Part, "_note", full)
        done = run(file, "-o", out)
    assert (done.returncode, out.exists()) == (1, False)
    assert f"cannot write {sinks.part_of(out)}: No space left on device" in done.stderr
    assert f"hint: {sinks.part_of(out)} holds 21 rows: go on with --resume." in done.stderr
    assert "9 of 60 rows failed" in run(file, "-o", out, "--resume").stderr


def test_an_error_that_was_counted_before_its_row_was_written_counts_once(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.csv", 60), tmp_path / "out.csv"
    note = sinks.Part._note

    def stop(self: sinks.Part, last: int | None) -> None:
        note(self, last)
        if last and last > 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sinks.Part, "_note", stop)
        assert run(file, "-o", out).returncode == 130
    assert "9 of 60 rows failed" in run(file, "-o", out, "--resume").stderr


# Pipes, signals, terminals.


def test_a_pipe_is_answered_line_by_line(folder: Path, options: list[object], fn: Function) -> None:
    with start("map", folder / "one.paw", *options) as process:
        assert process.stdin
        assert process.stdout
        for text in ("picnic", "server"):
            process.stdin.write(text.encode() + b"\n")
            process.stdin.flush()
            expected = fn(text, max_tokens=8).replace("\r", "\\r").replace("\n", "\\n")
            assert process.stdout.readline().decode() == expected + "\n"
        process.stdin.close()
        assert process.wait(30) == 0


def test_standard_input_resumes_too(folder: Path, options: list[object], tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.csv", 40).read_bytes()
    out = tmp_path / "out.csv"
    command = ["map", folder / "one.paw", "-", "--format", "csv", *options, "-o"]
    paw(*command, tmp_path / "calm.csv", stdin=data)
    with start(*command, out) as process:
        assert process.stdin
        process.stdin.write(data[: len(data) // 2])
        process.stdin.flush()
        wait_for(process, out, 2000)
        process.kill()
    paw(*command, out, "--resume", stdin=data)
    assert out.read_bytes() == (tmp_path / "calm.csv").read_bytes()


def test_an_interrupt_keeps_the_rows_and_says_how_to_go_on(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out.txt"
    with start("map", folder / "one.paw", *options, "-o", out) as process:
        assert process.stdin
        process.stdin.write(b"picnic\n")
        process.stdin.flush()
        wait_for(process, out, 0)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr
        stderr = process.stderr.read().decode().strip()
    assert stderr == f"{out}.part holds 1 row: go on with --resume"


def test_another_standard_input_is_refused(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out.txt"
    command = ["map", folder / "one.paw", "-", *options, "-o", out]
    with start(*command) as process:
        assert process.stdin
        process.stdin.write(b"old\npicnic\n")
        process.stdin.flush()
        wait_for(process, out, 0)
        process.kill()
    done = paw(*command, "--resume", stdin=b"new\npicnic\n")
    assert (done.returncode, "its input began with another row" in done.stderr) == (1, True)
    assert paw(*command, "--resume", stdin=b"old\npicnic\n").returncode == 0
    assert out.read_bytes().count(b"\n") == 2


def test_a_file_as_standard_input_is_a_file(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "rows.txt", 60)
    before = file.read_bytes()
    with (
        file.open() as handle,
        start("map", folder / "one.paw", *options, "-o", file, stdin=handle) as process,
    ):
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, b"is the input, too" in stderr) == (1, True)
    assert file.read_bytes() == before


def test_nobody_needs_to_read_what_is_said(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    file, out = tmp_path / "rows.txt", tmp_path / "out.txt"
    file.write_bytes(b"picnic\n\xff\n" * 200)
    with start("map", folder / "one.paw", file, *options, "-o", out) as process:
        assert process.stderr
        process.stderr.readline()
        process.stderr.close()
        assert process.wait(60) == 1
    assert out.read_bytes().count(b"\n") == 400


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_standard_output_is_one_sentence(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "rows.txt", 9)
    for name, more in (("map", []), ("filter", ["--on-error", "keep", "--keep", "x"])):
        command = [name, folder / "one.paw", file, *more, *options]
        with Path("/dev/full").open("wb") as full, start(*command, stdout=full) as process:
            _, stderr = process.communicate(timeout=60)
        error = stderr.decode().splitlines()[-1]
        assert error == "error: cannot write standard output: No space left on device"
        assert process.returncode == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_an_empty_one(
    folder: Path, options: list[object], tmp_path: Path, closed: str
) -> None:
    file = [] if closed == "<&-" else [write_rows(tmp_path / "rows.jsonl", 0)]
    (tmp_path / "rows.jsonl").write_text('"picnic"\n')
    words = [*SCRIPT, "map", folder / "one.paw", *file, *options]
    words += [] if closed == ">&-" else ["-o", tmp_path / "out.jsonl"]
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *map(str, words)]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    if closed != ">&-":
        assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == len(file)


def test_a_path_need_not_be_text(run: Paw, tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xff.txt"))
    try:
        file.write_text("picnic\n")
    except OSError:
        pytest.skip("file names are text here")
    assert run(file, "-o", tmp_path / "out.txt").returncode == 0


def test_what_cannot_begin_leaves_nothing_behind(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: sinks.Part, last: int | None) -> None:
        sinks.side_of(self.path).touch()
        raise OSError(28, "No space left on device")

    file = write_rows(tmp_path / "rows.txt", 3)
    monkeypatch.setattr(sinks.Part, "_note", full)
    assert run(file, "-o", tmp_path / "out.txt").returncode == 1
    assert [*tmp_path.iterdir()] == [file]


def test_a_reader_that_has_had_enough_ends_it_quietly(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "rows.txt", 300)
    with start("map", folder / "one.paw", file, *options) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr
        stderr = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert all(line.startswith("row ") for line in stderr.splitlines())


def test_a_terminal_sees_how_far_it_is(folder: Path, options: list[object], tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.csv", 300)
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    command = ["map", folder / "one.paw", file, *options, "-o", tmp_path / "out.csv"]
    seen = b""
    with start(*command, stderr=end):
        os.close(end)
        with contextlib.suppress(OSError):  # once the other end is closed
            while data := os.read(terminal, 4096):
                seen += data
    os.close(terminal)
    drawn, _, last = seen.decode().rpartition("\r300 rows in")
    assert "/300 rows" in drawn
    assert re.search(r"  \d+:\d\d:\d\d left", drawn)
    assert max(map(len, re.split(r"[\r\n]+", drawn))) == 49
    assert "rows/s" in last
