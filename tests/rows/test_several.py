"""Several files, folders and patterns: what is made of them is what is made of one file."""

from __future__ import annotations

import csv
import gzip
import io
import os
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from row_files import by_number, interrupted, objects, table, wait_for, write_rows
from shell import Paw, inside, paw, start
from test_run import PROGRAM, Shouting
from unreadable import open_folder, refused

from paw_mlx import Function
from paw_mlx.errors import NotFound, OptionError
from paw_mlx.rows.inputs import find_inputs
from paw_mlx.rows.opening import open_source
from paw_mlx.rows.part import Part
from paw_mlx.rows.run import RowFiles, identity, map_rows
from paw_mlx.rows.target import part_of
from paw_mlx.runner import Options

NAMES = ["a-none", "b", "c-packed", "d/e-none", "d/f/g", "h-no-end"]
BOUNDS = [0, 0, 7, 8, 8, 20, 10_000]


def spread(file: Path, folder: Path) -> Path:
    """Write the rows of a file into several of a folder, and others beside them that are none."""
    with file.open(newline="", encoding="utf-8") as handle:
        if file.suffix == ".csv":
            head, *rows = [as_record(record) for record in csv.reader(handle)]
        else:
            head, rows = "", handle.readlines()
    for i, name in enumerate(NAMES):
        found = rows[BOUNDS[i] : BOUNDS[i + 1]]
        data = ("" if name == "a-none" else head).encode() + "".join(found).encode()
        path = folder / f"{name}{file.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "c-packed":
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data))
        else:
            path.write_bytes(data.rstrip() if name == "h-no-end" else data)
    for name in ("_SUCCESS", "_not/x", ".hid/x", "._b", ".b", "README.md", "d/_z", "Thumbs.db"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}{'' if '.' in name[1:] else file.suffix}").write_text("none of\nyours\n")
    return folder


def as_record(values: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue()


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        *product([".txt", ".jsonl", ".csv"], ["folder", "files", "pattern", "to another format"]),
        (".jsonl", "unordered"),
        (".csv", "unordered"),
    ],
)
def test_several_are_as_one(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, how: str
) -> None:
    file = write_rows(tmp_path / f"rows{suffix}", 40)
    folder = spread(file, tmp_path / "spread")
    calm, out = tmp_path / f"calm{suffix}", tmp_path / f"out{suffix}"
    words, places = [], [folder]
    if how == "files":
        places = [folder / f"{name}{suffix}{'.gz' * ('packed' in name)}" for name in NAMES]
    elif how == "pattern":
        monkeypatch.chdir(tmp_path)
        places = [Path(f"spread/**/*{suffix}*")]
    elif how == "to another format":
        calm, out = tmp_path / "calm.jsonl", tmp_path / "out.jsonl"
    elif how == "unordered":
        words = ["--unordered"]
    assert run(file, *words, "-o", calm).returncode == 1
    done = run(*places, *words, "-o", out)
    assert (done.returncode, "6 of 40 rows failed" in done.stderr) == (1, True), done.stderr
    if how == "unordered":
        assert by_number(out) == by_number(calm)
    else:
        assert out.read_bytes() == calm.read_bytes()
        assert run(*places).stdout == run(file).stdout


def test_of_a_folder_rows_are_read_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "logs"
    for name in (
        "b.log", "a.log.2.gz", "a/x.txt", "a/.x.txt", "._b.log", ".git/x.log", "_SUCCESS",
        "_tmp/part.txt", "a/_x.txt", "notes.md", "run", "x.zip", "Thumbs.db", "a.json",
        "out.txt.part", "out.txt.part.json", "__MACOSX/._b.log",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.chdir(tmp_path)

    def found(*places: str, **how: Any) -> list[str]:
        return [path.as_posix() for path in find_inputs(places, **how)]

    assert found("logs") == ["logs/a/x.txt", "logs/a.log.2.gz", "logs/b.log"]
    assert found("logs/", format="csv") == ["logs/notes.md", "logs/run"]
    assert found("logs/*.log", "logs/a") == ["logs/b.log", "logs/a/x.txt"]
    assert found("logs/**/*.txt") == ["logs/a/x.txt"]
    assert found("logs/[a-b]*", "logs/_S*") == [
        "logs/a.json", "logs/a.log.2.gz", "logs/b.log", "logs/_SUCCESS",
    ]  # fmt: skip
    (tmp_path / "[b].log").touch()
    assert found("[b].log") == ["[b].log"]  # a name, since there is one
    for place, sentence in [
        ("logs/.git", "logs/.git holds no files of rows"),
        ("logs/*.csv", "no file matches logs/"),
    ]:
        if place == "logs/.git":
            (folder / ".git" / "x.log").rename(folder / ".git" / "x")
        with pytest.raises(NotFound, match=sentence):
            find_inputs([place])
    with pytest.raises(NotFound, match="logs/a holds no files of rows of sqlite"):
        find_inputs(["logs/a"], format="sqlite")


def test_a_row_says_which_file_it_stands_in(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_rows(tmp_path / "rows.csv", 22)
    spread(file, tmp_path / "spread")
    names = ["b.csv", "c-packed.csv.gz", "d/f/g.csv", "h-no-end.csv"]
    counts = zip(names, [7, 1, 12, 2], strict=True)
    expected = [f"spread/{name}" for name, count in counts for _ in range(count)]
    done = run("spread", "--file-field", "from")
    assert done.stdout.splitlines()[0].endswith(b"output,error,from")
    assert [row["from"] for row in table(done.stdout)] == expected
    out = tmp_path / "out.jsonl"
    interrupted(run, monkeypatch, "spread", "--file-field", "from", "-o", out, rows=9)
    assert run("spread", "-o", out, "--resume").stderr.startswith(
        f"error: {part_of(out)} is of another job: file_field was 'from', now None"
    )
    run("spread", "--file-field", "from", "-o", out, "--resume")
    rows = objects(out.read_bytes())
    assert [row["from"] for row in rows] == expected
    assert "error" in rows[0]
    run("rows.csv", "--file-field", "from", "--unordered", "-o", out)
    assert {row["from"] for row in objects(out.read_bytes())} == {"rows.csv"}
    for words, sentence in [
        (["rows.csv", "--file-field", "id"], "has a field 'id' already\nhint: Name another with"),
        (["rows.csv", "--file-field", "error"], "--file-field error: another field has that name"),
        (["rows.csv", "--file-field", "output"], "--file-field output: another field has that"),
        (["rows.csv", "-o", "out.txt", "--file-field", "f"], "lines have none"),
    ]:
        assert sentence in run(*words).stderr


@pytest.mark.parametrize(
    ("files", "words", "code", "sentence"),
    [
        ({"a.csv": "id,text\n", "b.csv": "id,more\n"}, ["--field", "id"], 2,
         "the columns of b.csv differ from those of a.csv by more, text"),
        ({"a.csv": "id,text\n", "b.csv": "text,id\n"}, [], 2,
         "the columns of b.csv differ from those of a.csv in their order"),
        ({"a.csv": "", "b.csv": "id,text\n", "c.csv": "id\n"}, ["--field", "id"], 2,
         "the columns of c.csv differ from those of b.csv by text"),
        ({"a.csv": "id,text\n", "b.csv": "id,subject\n"}, [], 2,
         "b.csv: name the field that holds the input with --field: the input has id, subject"),
        ({"a.csv": "id,text\n", "b.csv": "id;text\n"}, [], 2,
         "b.csv parts its fields by ';', and a.csv by ','"),
        ({"a.csv": "text\nx\n", "b.csv": '"text\n'}, [], 1, "b.csv has no sound header"),
        ({"a.jsonl": '{"id": 1, "more": 2}'}, ["b.jsonl"], 1, "cannot read b.jsonl: No such file"),
        ({"a.csv": "text\n", "b.txt": "x", "c.log": "x"}, [], 1,
         "these 3 files are of several formats: 1 of csv, 2 of lines"),
        ({"a.csv": "text\n", "b.json": "x"}, [], 1, "b.json is neither text, JSON lines, csv"),
        ({"a.txt": "x", "b.txt": "x"}, ["./a.txt"], 1,
         "a.txt is named twice: its rows would be, too"),
        ({"a.txt": "x", "b.txt": "x"}, ["*.txt"], 1, "a.txt is named twice"),
        ({"a.txt": "x", "b.txt": "x"}, ["/dev/null"], 1, "/dev/null is no regular file"),
        ({"a.txt": "x", "b.txt": "x"}, ["-"], 2, "- is standard input, and comes alone"),
        ({"a.txt": "x", "b.txt": "x"}, ["-o", "b.txt"], 1, "b.txt is the input, too"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_is_said_before_the_first_row(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str], words: list[str], code: int, sentence: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        Path(name).write_text(text)
    done = run(*files, *words)
    assert (done.returncode, done.stdout) == (code, b"")
    assert sentence in done.stderr
    assert not [*tmp_path.glob("*.part*")]


def test_one_that_may_not_be_read_is_said_before_the_first_row() -> None:
    with open_folder() as folder:
        for name in ("a.txt", "b.txt"):
            (folder / name).write_text("x\n")
        with (
            refused(folder / "b.txt"),
            pytest.raises(NotFound, match=r"cannot read .*b.txt: Permission denied"),
            open_source([folder]),
        ):
            pass


def test_names_of_any_kind_are_of_the_format_that_is_named(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in [("a.txt", "text\na\n"), ("b.json", "text\nb\n"), ("c", "text\nc\n")]:
        Path(name).write_text(text)
    done = run("a.txt", "b.json", "c", "--format", "csv")
    assert [row["text"] for row in table(done.stdout)] == ["a", "b", "c"]


def test_a_row_of_a_later_file_that_lacks_the_field_fails_alone(
    run: Paw, fn: Function, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "picnic"}\n')
    (tmp_path / "b.jsonl").write_text('{"id": 2}\n{"input": "x", "text": "server", "id": 3}\n')
    done = run(tmp_path)
    said = [fn(text, max_tokens=8) for text in ("picnic", "server")]
    rows = objects(done.stdout)
    assert done.returncode == 1
    assert [row.get("output") for row in rows] == [said[0], None, said[1]]
    assert "there is no field 'text': the row has id" in rows[1]["error"]["message"]


def test_one_that_goes_away_meanwhile_ends_the_run_and_keeps_what_is_done(tmp_path: Path) -> None:
    names = ["a.txt", "b.txt", "c.txt"]
    for name in names:
        (tmp_path / name).write_text("picnic\n" * 50)
    out = tmp_path / "out.jsonl"

    def run(remove: bool) -> int:
        with open_source([tmp_path / name for name in names]) as source:
            files = RowFiles.open(source, out)
            job = identity(Shouting(), PROGRAM, files, Options())
            with closing(Part(out, job, files.writer, resume=True)) as part:
                for i, _ in enumerate(map_rows(Shouting(), PROGRAM, files, part, Options())):
                    if i == 20 and remove:
                        (tmp_path / "b.txt").rename(tmp_path / "gone")
                return len(part.done)

    with pytest.raises(NotFound, match=r"cannot read .*b.txt: No such file") as raised:
        run(remove=True)
    assert raised.value.hints == [f"{part_of(out)} holds 50 rows: go on with --resume."]
    (tmp_path / "gone").rename(tmp_path / "b.txt")
    assert run(remove=False) == 50
    assert out.read_text().count("PICNIC") == 150


@pytest.mark.slow
def test_killed_and_resumed_is_undisturbed(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "rows.csv", 100)
    spread(file, tmp_path / "spread")
    command = ["map", folder / "one.paw", *options, "--batch-size", 6]
    calm, out = tmp_path / "calm.jsonl", tmp_path / "out.jsonl"
    paw(*command, file, "-o", calm)
    for size in (100, calm.stat().st_size // 2):  # in the first of the files, and in the last
        with start(*command, tmp_path / "spread", "-o", out, "--resume", stdin=None) as process:
            wait_for(process, out, size)
            process.kill()
    done = paw(*command, tmp_path / "spread", "-o", out, "--resume")
    assert "that were there" in done.stderr
    assert out.read_bytes() == calm.read_bytes()


def test_other_files_are_another_job(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spread(write_rows(tmp_path / "rows.jsonl", 40), tmp_path / "spread")
    calm, out = tmp_path / "calm.jsonl", tmp_path / "out.jsonl"
    run(folder, "-o", calm)
    interrupted(run, monkeypatch, folder, "-o", out)
    first, last = folder / "a-none.jsonl", folder / "h-no-end.jsonl"

    def refusal() -> str:
        done = run(folder, "-o", out, "--resume")
        assert done.returncode == 1
        return done.stderr.splitlines()[0]

    another = f"error: {part_of(out)} is of another job: "
    (folder / "new.jsonl").write_text('"new"')
    assert refusal() == f"{another}input was '{first} and 5 more', now '{first} and 6 more'"
    (folder / "new.jsonl").unlink()
    before = last.read_text()
    last.write_text(before.replace("picnic", "PICNIC"))
    assert refusal() == f"{another}{first} and 5 more has changed since"
    last.write_text(before)
    last.rename(folder / "i.jsonl")
    assert refusal() == f"{another}{first} and 5 more has changed since"
    (folder / "i.jsonl").rename(last)
    monkeypatch.chdir(folder)  # the same files, by another name
    assert "after 20 that were there" in run("../spread", "-o", out, "--resume").stderr
    assert out.read_bytes() == calm.read_bytes()
    assert "nothing to resume" in run(".", "-o", out, "--resume").stderr
    last.touch()
    os.utime(out, (1, 1))
    assert f"{out} is older than" in run("../spread", "-o", out, "--resume").stderr


def test_what_is_written_is_never_read(
    run: Paw, folder: Path, options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    logs = Path("logs")
    logs.mkdir()
    write_rows(logs / "a.txt", 40)
    write_rows(logs / "b.txt", 40)
    for out in ("logs/out.txt", "logs/deep/out.parquet"):
        done = run(logs, "-o", out)
        assert (done.returncode, f"{out} lies in logs, which is read" in done.stderr) == (1, True)
    interrupted(run, monkeypatch, "logs/*", "-o", "logs/out.txt")
    assert "after 20 that were there" in run("logs/*", "-o", "logs/out.txt", "--resume").stderr
    assert Path("logs/out.txt").read_text().count("\n") == 80
    done = run("logs/*", "-o", "logs/out.txt")
    assert (done.returncode, "logs/out.txt is the input, too" in done.stderr) == (1, True)
    Path("c.txt.part").write_text("x")
    assert "c.txt.part is the input, too" in run("c.txt.part", "-o", "c.txt").stderr
    assert Path("c.txt.part").read_text() == "x"
    with Path("logs/c.txt").open("wb") as stdout:
        process = start("map", folder / "one.paw", logs, *options, stdin=None, stdout=stdout)
        with process:
            said = process.communicate(timeout=60)[1]
    assert said.startswith(b"error: standard output goes to a file that is read, too")


def test_thousands_of_files_are_open_one_at_a_time(tmp_path: Path) -> None:
    for i in range(1500):
        (tmp_path / f"{i:04}.csv").write_text(f"text\nrow {i:04}\nrow {i:04}\n")
    descriptors = Path("/dev/fd")
    before, most, told = len([*descriptors.iterdir()]), 0, []
    with open_source([tmp_path]) as source:
        files = RowFiles.open(source)
        for row in files.reader:
            assert row is not None
            if row.number % 500 == 0:
                told.append(files.num_rows_after(0))
                most = max(most, len([*descriptors.iterdir()]))
    assert all(total and abs(total - 3000) < 100 for total in told)
    assert told[-1] == 3000
    assert most <= before + 2


def test_rank_and_drift_read_several_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    file, call = write_rows(tmp_path / "rows.jsonl", 20), inside(monkeypatch, capfdbinary)
    pieces = spread(file, tmp_path / "spread")
    words = ["--interpreter", folder / "base", "--labels", "good,bad"]
    ranked = [call("rank", folder / "one.paw", place, *words).stdout for place in (file, pieces)]
    assert ranked[0] == ranked[1]
    assert len(ranked[0].splitlines()) == 20
    told = [
        call("drift", folder / "one.paw", place, "--cases", file, "--max-tokens", 4, *words[:2])
        for place in (file, pieces)
    ]
    assert told[0] == told[1]
    assert told[0].returncode == 0, told[0].stderr


def test_an_output_beside_the_folder_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "logs")
    assert find_inputs([tmp_path / "logs"], output=tmp_path / "logs-out.txt")
    with pytest.raises(OptionError, match="lies in"):
        find_inputs([tmp_path / "logs"], output=tmp_path / "link" / "out.txt")
