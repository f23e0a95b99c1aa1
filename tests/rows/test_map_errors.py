"""`paw-mlx map` keeps rows that fail, with their errors, and names a wrong call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from row_files import answered, objects, outputs, table, write_rows
from shell import Paw, paw

from paw_mlx import Function
from paw_mlx.rows import source

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
    assert found[0] == {"input": "picnic", **answered(fn, "picnic")}
    assert found[7] == {"input": "server", "error": "own", **answered(fn, "server")}
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
    text = f'id,text\n1,picnic\n2\n3,a,b\n4,"a"b\n5,{long}\n6,"open\n7,picnic'
    file.write_bytes(text.encode())
    done = run(file)
    found = table(done.stdout)
    said = fn("picnic", max_tokens=8)
    assert [row["output"] for row in found] == [said, *[""] * 5, said]
    words = [
        "",
        "FormatError: 1 field,",
        "3 fields",
        "no valid csv",
        "InputTooLong: ",
        "no valid csv (a quote in it has no end)",
        "",
    ]
    for row, word in zip(found, words, strict=True):
        assert word in row["error"]
    assert [row["id"] for row in found] == ["1", "2", "3,a,b", '4,"a"b', "5", '6,"open', "7"]
    assert (done.returncode, "5 of 7 rows failed" in done.stderr) == (1, True)


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
    assert ["error" in row for row in objects(out.read_bytes())] == [False, True, False]
    done = run(file, "--on-error", "stop", "--json")
    assert json.loads(done.stderr)["error"]["code"] == "FormatError"
    assert [row["input"] for row in objects(done.stdout)] == ["picnic"]


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


def test_a_giant_line_is_a_row_that_fails(
    run: Paw, fn: Function, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_LINE_BYTES", 1 << 17)
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


@pytest.mark.parametrize(
    ("name", "text", "words", "code", "message"),
    [
        ("a.jsonl", '{"a": "x", "b": "y"}', [], 2, "--field: the input has a, b"),
        ("a.csv", "a,b\n1,2\n", [], 2, "--field: the input has a, b"),
        ("a.csv", "a,b\n1,2\n", ["--field", "c"], 2, "no field 'c': the input has a, b"),
        ("a.csv", "a,output\n1,2\n", ["--field", "a"], 1, "already"),
        ("a.jsonl", '{"input": "a", "output": 1}', [], 1, "already"),
        ("a.jsonl", '{"input": "a", "row": 1}', ["--unordered"], 1, "already"),
        ("a.csv", "a,a\n1,2\n", ["--field", "a", "-o", "out.jsonl"], 2, "2 fields are called 'a'"),
        ("a.csv", "text,id,text\n1,2,3\n", [], 2, "2 fields are called 'text'"),
        ("a.csv", "id,subject \n1,x\n", ["--field", "subject"], 2, "the input has id, 'subject '"),
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
        ("a.json", "[]", [], 1, "a.json is neither text, JSON lines, csv"),
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


def test_options_that_suit_no_input_end_it_before_it_begins(folder: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.txt", 3)
    words = ["--interpreter", folder / "base", "--max-tokens", 1000, "-o", tmp_path / "out.txt"]
    done = paw("map", folder / "one.paw", file, *words)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "1000 output tokens exceed the window of 256" in done.stderr
    assert [*tmp_path.iterdir()] == [file]


def test_an_overflow_policy_cuts_and_says_how_many(run: Paw, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("picnic\n" + "the disk is full " * 100 + "\n")
    done = run(file, "--overflow", "tail")
    assert done.returncode == 0
    assert "1 cut by" in done.stderr
    (summary,) = objects(run(file, "--overflow", "tail", "--json").stderr.encode())
    assert summary["num_cut"] == 1
    assert f"1 cut by {summary['cut_tokens']:,} tokens" in done.stderr


def test_run_says_what_was_cut_when_it_streams(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("the disk is full " * 100)
    words = ["run", folder / "one.paw", "--file", tmp_path / "a.txt", *options]
    told = [paw(*words, "--overflow", "tail", *more) for more in ([], ["--stream"])]
    assert told[0] == told[1]
    assert "tokens of the input were cut\n" in told[0].stderr
