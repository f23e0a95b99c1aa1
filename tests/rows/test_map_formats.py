"""`paw-mlx map` reads and writes lines, JSON lines and csv, and leaves them as they were."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from row_files import TEXTS, answered, objects, outputs, table
from shell import Paw

from paw_mlx import Function


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
        {"input": text, **answered(fn, text)} for text in ["server server", "", *TEXTS]
    ]


def test_objects_keep_every_byte_of_their_fields(run: Paw, fn: Function, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '\ufeff{"id": 1.50, "text":"picnic",  "tags": []}\r\n"server"\n\n  \n'
        '{"text": "the \\u0064isk", "x": 1e400 } ',
        encoding="utf-8",
    )
    one, two, three = outputs(fn, ["picnic", "server", "the disk"])
    shown = [
        json.dumps(answered(fn, text), ensure_ascii=False)[1:]
        for text in ("picnic", "server", "the disk")
    ]
    assert run(file).stdout.decode().splitlines() == [
        f'{{"id": 1.50, "text":"picnic",  "tags": [], {shown[0]}',
        f'{{"input": "server", {shown[1]}',
        f'{{"text": "the \\u0064isk", "x": 1e400, {shown[2]}',
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


def test_a_csv_of_tabs_gets_commas_where_out_says_so(run: Paw, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("id\ttext\n1\tpicnic\n")
    run(tmp_path / "rows.tsv", "-o", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().startswith("id,text,output,error\n1,picnic,")


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


def test_no_rows_are_no_error(run: Paw, tmp_path: Path) -> None:
    for name, head in [("a.txt", b""), ("a.jsonl", b""), ("a.csv", b"text,output,error\n")]:
        (tmp_path / name).write_bytes(b"text\n" if head else b"")
        out = tmp_path / f"out-{name}"
        assert run(tmp_path / name, "-o", out).returncode == 0
        assert out.read_bytes() == run(tmp_path / name).stdout == head


def test_a_path_need_not_be_text(run: Paw, tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xff.txt"))
    try:
        file.write_text("picnic\n")
    except OSError:
        pytest.skip("file names are text here")
    assert run(file, "-o", tmp_path / "out.txt").returncode == 0
