"""Rows of SQLite databases in and out: what is read and written, as SQLite itself sees it."""

from __future__ import annotations

import csv
import json
import math
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from row_files import objects, table
from shell import Paw, inside
from sqlite_rows import MAIL, is_sound, mail, out_of, read, shout, types, write
from unreadable import open_folder, refused

from paw_mlx.errors import DiskError, FieldError, FormatError, NotFound, OptionError
from paw_mlx.rows.sqlite import source as reading
from paw_mlx.rows.target import Table, part_of

ODD = 'a "quoted" täble'
GAINED = [("output", "TEXT"), ("error", "TEXT")]
BIG = 2**63 - 1


def test_values_and_declared_types_stay_exactly(tmp_path: Path) -> None:
    db, q = tmp_path / "app.db", '"a ""quoted"" täble"'
    columns = {
        "text": "VARCHAR(10)", "rowid": "INTEGER", "n": "NUMERIC(4, 2)", 'q"q': "unsigned big int",
        "": "", "select": "REAL", "größe": "BLOB", "weird": 'some ""type', "d": "DATETIME",
    }  # fmt: skip
    quoted = [f'"{n.replace(chr(34), chr(34) * 2)}" "{t}"' for n, t in columns.items()]
    rows = [
        ("a\0b 世界", BIG, 1.5, -BIG - 1, "007", math.inf, b"\0\xff", None, "2026-01-01"),
        ("wrong", None, "x", 0, 7, -0.0, b"", 3, 4),
        ("b", -1, 10**15, 2, 0.1, 2**53 + 1, "a text", b"\x80", None),
        (None, 0, None, None, None, None, None, None, None),
        (12, 0, "1e2", "5", b"5", "5", 5, "5", "5"),
    ]
    write(db, f"CREATE TABLE {q}({', '.join(quoted)})", f"INSERT INTO {q} VALUES ({'?, ' * 8}?)",
          rows=rows)  # fmt: skip
    shout(db, Table(db, "out ' \" ütput"), field="text")
    out = '"out \' "" ütput"'
    declared = [(name, kind.replace('""', '"')) for name, kind in columns.items()]
    assert types(db, "out '' \" ütput") == [*declared, *GAINED]
    names = [f't."{name.replace(chr(34), chr(34) * 2)}"' for name in columns]
    exact = ", ".join(f"{name}, typeof({name})" for name in names)
    before = read(db, f"SELECT {exact} FROM {q} AS t ORDER BY t._rowid_")
    assert read(db, f"SELECT {exact} FROM {out} AS t ORDER BY t._rowid_") == before
    assert [value for (value,) in read(db, f"SELECT error FROM {out}")] == [
        None, "InputTooLong: too long", None, "FormatError: the field 'text' is no text", None,
    ]  # fmt: skip
    assert read(db, f"SELECT output FROM {out}")[0] == ("A\0B 世界",)
    assert is_sound(db)


def test_a_strict_tables_any_keeps_texts_that_look_like_numbers(tmp_path: Path) -> None:
    db = write(tmp_path / "a.db", "CREATE TABLE t (text TEXT, any ANY) STRICT",
               "INSERT INTO t VALUES (?, ?)", rows=[("a", "007"), ("b", 7)])  # fmt: skip
    shout(db, out_of(db))
    assert read(db, "SELECT any FROM out") == [("007",), (7,)]


def test_an_empty_table_becomes_one(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db", [])
    assert shout(db, out_of(tmp_path / "new.sqlite"), field="body") == []
    assert types(tmp_path / "new.sqlite", "out") == [("id", "INTEGER"), ("body", "TEXT"), *GAINED]
    assert read(tmp_path / "new.sqlite", "SELECT * FROM out") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.db", "new.sqlite"]


def test_rows_come_by_their_rowids_whatever_these_are(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(reading, "_PAGE_ROWS", 2)
    keys = [-BIG - 1, -3, 0, 5, 6, BIG]
    db = mail(tmp_path / "a.db", [(key, f"k{key}") for key in reversed(keys)])
    assert shout(db, out_of(db), field="body") == [f"k{key}" for key in keys]
    names = "rowid TEXT, _ROWID_ TEXT, oid TEXT, input TEXT"  # none is left for the rowid
    write(db, f"CREATE TABLE taken ({names})", "INSERT INTO taken VALUES (1, 2, 3, ?)",
          rows=[(text,) for text in "abc"])  # fmt: skip
    assert shout(f"sqlite:///{db}?table=taken", Table(db, "out2")) == ["a", "b", "c"]


def test_views_queries_and_tables_without_rowids(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db")
    write(db, "CREATE VIEW good AS SELECT id AS number, body FROM mail WHERE body != 'wrong'")
    write(db, "CREATE VIEW mixed AS SELECT id AS x, body FROM mail WHERE id = 7 "
              "UNION ALL SELECT '007', 'b'")  # fmt: skip
    write(db, "CREATE TABLE keyed (body TEXT, k TEXT, n INT, PRIMARY KEY (n, k)) WITHOUT ROWID",
          "INSERT INTO keyed VALUES (?, ?, ?)",
          rows=[("c", "b", 2), ("a", "z", 1), ("b", "a", 2)])  # fmt: skip
    url = f"sqlite:///{db}?table="
    assert shout(f"{url}good", Table(db, "o1"), field="body") == [
        t for _, t in MAIL if t != "wrong"
    ]
    assert shout(f"{url}keyed", Table(db, "o2"), field="body") == ["a", "b", "c"]
    assert types(db, "o2") == [("body", "TEXT"), ("k", "TEXT"), ("n", "INT"), *GAINED]
    shout(f"{url}mixed", Table(db, "o3"), field="body")
    assert read(db, "SELECT x, body, output FROM o3") == [
        (7, "text 7", "TEXT 7"),
        ("007", "b", "B"),
    ]
    query = "WITH m AS (SELECT * FROM mail) SELECT body AS text, id * 2 AS twice FROM m\n"
    query += "WHERE id < 4 ORDER BY id DESC; -- the last first"
    assert shout(db, Table(db, "o4"), query=query) == ["text 3", "text 2", "text 1"]
    assert read(db, "SELECT * FROM o4")[0] == ("text 3", 6, "TEXT 3", None)
    assert types(db, "o4") == [("text", "TEXT"), ("twice", "INTEGER"), *GAINED]
    assert shout(db, tmp_path / "v.csv", query="VALUES ('x'), ('y')") == ["x", "y"]


def test_what_is_no_query_is_said(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db")
    before = db.read_bytes()
    for query, message in {
        "DELETE FROM mail": 'near "DELETE": syntax error',
        "PRAGMA user_version = 3": 'near "PRAGMA": syntax error',
        "SELECT 1; DROP TABLE mail": "one statement at a time",
        "SELECT * FROM nobody": "no such table: nobody",
        "SELECT nobody FROM mail": "no such column: nobody",
        "SELECT ?": "parameters are not allowed",
        "": "incomplete input",
    }.items():
        with pytest.raises(OptionError, match=message):
            shout(db, out_of(db), query=query)
    assert db.read_bytes() == before


def test_where_a_table_is_and_what_is_no_place(tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "a folder?"
    folder.mkdir()
    mail(folder / "app%.db")
    there = f"sqlite:///{folder}/app%25.db?table=MAIL".replace("?/", "%3F/").replace(" ", "%20")
    assert len(shout(there, tmp_path / "a.csv", field="body")) == 10
    monkeypatch.chdir(folder)
    assert len(shout("sqlite:///app%25.db", tmp_path / "b.csv", field="body")) == 10
    for place, error, message in [
        ("sqlite://app.db?table=mail", OptionError, "names no file"),
        ("sqlite:///?table=mail", OptionError, "names no file"),
        ("sqlite:///%00", OptionError, "names no file"),
        ("sqlite:///app%25.db?tabel=mail", OptionError, "may stand behind the ?"),
        ("sqlite:///app%25.db?table=", OptionError, "may stand behind the ?"),
        ("sqlite:///app%25.db?table=a&table=b", OptionError, "may stand behind the ?"),
        ("sqlite:///app%25.db?table=letters", NotFound, "has no table 'letters'"),
        ("sqlite:///no.db", NotFound, "cannot read no.db: No such file"),
        ("sqlite:///.", NotFound, "no regular file"),
    ]:
        with pytest.raises(error, match=message.replace("?", "[?]")):
            shout(place, tmp_path / "c.csv", field="body")
    with pytest.raises(OptionError, match="comes alone"):
        shout([Path("app%.db"), Path("app%.db")], tmp_path / "c.csv", query="SELECT 1")
    Path("rows.csv").write_text("text\na\n")
    with pytest.raises(OptionError, match="to be read as text"):
        shout(Path("rows.csv"), tmp_path / "c.csv", query="SELECT 1")


def test_the_only_table_is_meant_and_outputs_are_not(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db")
    write(db, "CREATE VIEW short AS SELECT * FROM mail", "CREATE INDEX by_body ON mail (body)")
    shout(db, out_of(db), field="body")
    assert len(shout(db, tmp_path / "a.csv", field="body")) == 10
    write(db, "CREATE TABLE letters (text TEXT)")
    with pytest.raises(OptionError) as found:
        shout(db, tmp_path / "b.csv")
    assert str(found.value) == f"{db} holds the tables and views letters, mail, out, short"
    assert found.value.hints == ["Name one: sqlite:///FILE?table=T, or give a --query."]
    shout(f"sqlite:///{db}?table=mail", tmp_path / "made.db", field="body")
    assert (
        len(shout(tmp_path / "made.db", tmp_path / "c.csv", field="body", output_field="o")) == 10
    )
    with pytest.raises(OptionError, match="holds no table"):
        shout(write(tmp_path / "empty.db", "VACUUM"), tmp_path / "b.csv")
    with pytest.raises(NotFound, match="no table 'by_body'"):
        shout(f"sqlite:///{db}?table=by_body", tmp_path / "b.csv")
    with pytest.raises(FieldError, match="there is no field 'x': the input has id, body"):
        shout(f"sqlite:///{db}?table=mail", tmp_path / "b.csv", field="x")


def test_what_is_no_text_fails_by_row(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 1 << 20)
    db = tmp_path / "a.db"
    write(db, "CREATE TABLE t (text TEXT, other BLOB)",
          "INSERT INTO t VALUES (CAST(? AS TEXT), ?)",
          rows=[(b"a", 1), (b"caf\xe9", 2), (b"b", None), (b"c", b"x" * (17 << 20)),
                (b"x" * (17 << 20), 5)])  # fmt: skip
    write(db, "INSERT INTO t VALUES (x'00ff', 6), ('d', CAST(x'61ff' AS TEXT))")
    out = tmp_path / "out.jsonl"
    assert shout(db, out) == ["a", "b"]
    rows = objects(out.read_bytes())
    assert [row.get("error", {}).get("message") for row in rows] == [
        None, "the field 'text' is not UTF-8: byte 0xe9 at 3", None,
        "the field 'other' is larger than 1,048,576 bytes",
        "the field 'text' is larger than 1,048,576 bytes",
        "the field 'text' is no text", "the field 'other' is not UTF-8: byte 0xff at 1",
    ]  # fmt: skip
    assert [row["other"] for row in rows] == [1, 2, None, "", 5, 6, "a�"]
    assert (rows[3]["text"], rows[4]["text"]) == ("c", "")
    assert rows[5]["text"] == "AP8="  # bytes in a format of text


def test_wide_rows_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: Any) -> None:
    db = mail(tmp_path / "a.db", [(i, f"{i} " * 500_000) for i in range(12)])
    sizes = []
    page = reading.Rows._page

    def spy(self: reading.Rows, after: int | None) -> Any:
        found = page(self, after)
        sizes.append(sum(len(values[1]) for _, values in found))
        return found

    monkeypatch.setattr(reading.Rows, "_page", spy)
    assert len(shout(db, tmp_path / "o.jsonl", field="body")) == 12
    assert max(sizes) < 6 << 20
    assert len(sizes) > 3


def test_tables_are_csv_and_back(tmp_path: Path) -> None:
    texts = ['a "b",\r\nc', "", "世界", "wrong", " x ", "\0"]
    db = write(tmp_path / "a.db", "CREATE TABLE t (text TEXT, n REAL, b BLOB)",
               "INSERT INTO t VALUES (?, ?, ?)",
               rows=[(text, i / 3, bytes([i])) for i, text in enumerate(texts)])  # fmt: skip
    shout(db, tmp_path / "a.csv")
    shout(db, tmp_path / "a.jsonl")
    rows = table((tmp_path / "a.csv").read_bytes())
    assert [row["text"] for row in rows] == texts
    assert [row["n"] for row in rows] == [repr(i / 3) for i in range(6)]
    assert [(row["n"], row["b"]) for row in objects((tmp_path / "a.jsonl").read_bytes())] == [
        (i / 3, code) for i, code in enumerate(["AA==", "AQ==", "Ag==", "Aw==", "BA==", "BQ=="])
    ]
    shout(tmp_path / "a.csv", out_of(db), output_field="again", field="text")
    back = read(db, "SELECT text, n, output, again FROM out")
    assert back == [(r["text"], r["n"], r["output"], r["output"] or None) for r in rows] or (
        [row[:3] for row in back] == [(r["text"], r["n"], r["output"]) for r in rows]
    )


def test_columns_of_other_inputs_have_the_types_of_their_values(tmp_path: Path) -> None:
    file, db = tmp_path / "rows.jsonl", tmp_path / "out.db"
    rows: list[dict[str, Any]] = [
        {"text": "a", "i": 1, "f": 0.5, "mixed": 1, "b": True, "list": [1, {"x": "é"}], "big": 1},
        {"text": "b", "i": None, "f": None, "mixed": "1", "b": False, "list": {}, "big": 10**30},
        {"text": "\ud800", "i": 3, "f": 1.0, "mixed": 1.0, "b": None, "list": None, "big": 2},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shout(file, db)
    assert types(db, "output")[:7] == [
        ("text", "TEXT"), ("i", "INTEGER"), ("f", "REAL"), ("mixed", ""), ("b", "INTEGER"),
        ("list", "TEXT"), ("big", ""),
    ]  # fmt: skip
    assert read(db, "SELECT * FROM output") == [
        ("a", 1, 0.5, 1, 1, '[1, {"x": "é"}]', 1, "A", None),
        ("b", None, None, "1", 0, "{}", str(10**30), "B", None),
        ("?", 3, 1.0, 1.0, None, None, 2, "?", None),
    ]
    pandas = pytest.importorskip("pandas")
    with closing(sqlite3.connect(db)) as connection:
        frame = pandas.read_sql("SELECT text, f, output FROM output", connection)
    assert frame["output"].tolist() == ["A", "B", "?"]
    assert frame["f"].dtype == "float64"


@pytest.mark.parametrize("unordered", [False, True])
def test_a_table_holds_what_csv_does(run: Paw, tmp_path: Path, unordered: bool) -> None:
    db = mail(tmp_path / "app.db", [(i, text * (1 if i % 5 else 400)) for i, text in MAIL])
    words = [db, "--field", "body", "--labels", "disk,server,picnic", "--probability-field", "p",
             *(["--unordered"] if unordered else [])]  # fmt: skip
    done = [run(*words, "-o", place) for place in
            (tmp_path / "o.csv", f"sqlite:///{db}?table=o", tmp_path / "o.sqlite3")]  # fmt: skip
    assert [d.returncode for d in done] == [1, 1, 1], done
    assert all("2 of 10 rows failed" in d.stderr for d in done)
    rows = [*csv.reader((tmp_path / "o.csv").read_text().splitlines())]
    names, by = rows.pop(0), " ORDER BY id"
    assert names == ["id", "body", "output", "p", "error", *(["row"] if unordered else [])]
    for path, name in ((db, "o"), (tmp_path / "o.sqlite3", "output")):
        assert [column for column, _ in types(path, name)] == names
        found = read(path, f"SELECT * FROM {name}{by}")
        for values, texts in zip(found, sorted(rows, key=lambda row: int(row[0])), strict=True):
            rest = [*values[:3], *values[4:]]
            assert ["" if v is None else str(v) for v in rest] == [*texts[:3], *texts[4:]]
            assert values[3] == (pytest.approx(float(texts[3]), abs=2e-4) if texts[3] else None)
    assert dict(types(db, "o"))["p"] == "REAL"


def test_what_is_there_and_not_ours_is_refused_before_a_row_is_run(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db")
    write(db, "CREATE TABLE theirs (x)", "CREATE VIEW seen AS SELECT * FROM mail",
          "CREATE INDEX quick ON mail (body)")  # fmt: skip
    shout(f"sqlite:///{db}?table=mail", out_of(db), field="body")
    for name, message in {
        "theirs": "is there already", "THEIRS": "is there already", "seen": "is there already",
        "quick": "is there already", "Mail": "is the input, too",
        "sqlite_x": "can be called", "paw_mlx_RUNS": "can be called", "a\0b": "can be called",
        "\udcff": "can be called",
    }.items():  # fmt: skip
        with pytest.raises(OptionError, match=message):
            shout(f"sqlite:///{db}?table=mail", Table(db, name), field="body")
    for place, query in ((f"sqlite:///{db}?table=out", None), (db, "SELECT body, id FROM Out"),
                         (db, "SELECT body FROM mail, (SELECT count(*) FROM out)")):  # fmt: skip
        with pytest.raises(OptionError, match=r"app\.db is the input, too"):
            shout(place, Table(db, "OUT"), query=query, field="body", output_field="o2")
    write(db, "ALTER TABLE out ADD COLUMN checked")
    with pytest.raises(OptionError, match="not as `map` wrote it"):
        shout(f"sqlite:///{db}?table=mail", out_of(db), field="body")
    other = write(tmp_path / "other.db", "CREATE TABLE paw_mlx_runs (name, x)")
    with pytest.raises(OptionError, match="a table paw_mlx_runs that is not `map`'s"):
        shout(f"sqlite:///{db}?table=mail", out_of(other), field="body")
    (tmp_path / "text.db").write_text("no database at all, but a text" * 40)
    with pytest.raises(FormatError, match="is no SQLite database, or is encrypted"):
        shout(f"sqlite:///{db}?table=mail", tmp_path / "text.db", field="body")
    assert not [*tmp_path.glob("*.part*")]


def test_several_databases_are_read_one_after_the_other(tmp_path: Path) -> None:
    one, two = mail(tmp_path / "1.db", MAIL[:3]), tmp_path / "2.sqlite3"
    write(two, "CREATE TABLE letters (id TEXT, body TEXT)",
          "INSERT INTO letters VALUES ('004', 'x')")  # fmt: skip
    out = tmp_path / "out.db"
    shout([one, two], out, field="body", file_field="where", most=2)
    assert shout([one, two], out, field="body", file_field="where", resume=True) == ["text 3", "x"]
    rows = [(i, text, text.upper(), None, str(one)) for i, text in MAIL[:3]]
    assert read(out, "SELECT * FROM output") == [*rows, ("004", "x", "X", None, str(two))]
    shout(one, tmp_path / "o.csv", field="body", file_field="where")
    assert table((tmp_path / "o.csv").read_bytes())[0]["where"] == str(one)


def test_columns_that_are_one_to_sqlite_are_refused(tmp_path: Path) -> None:
    file, db = tmp_path / "a.jsonl", tmp_path / "out.db"
    for row, message in (
        ({"text": "a", "Text": "b"}, "the columns 'text' and 'Text' are one"),
        ({"text": "a", "Output": "b"}, "the columns 'Output' and 'output' are one"),
        ({"text": "a", "x\0": "b"}, "no column of SQLite can be called"),
        ({"text": "a", **{f"c{i}": 1 for i in range(2000)}}, "2,003 columns, and SQLite takes"),
    ):
        file.write_text(json.dumps(row))
        with pytest.raises(OptionError, match=message):
            shout(file, db)
    assert not db.exists()


def test_a_table_of_ours_is_replaced_and_no_other_changes(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db")
    shout(db, out_of(db), field="body")
    others = "SELECT name, sql FROM sqlite_master WHERE name NOT IN ('out') ORDER BY name"
    before = read(db, others)
    write(db, "DELETE FROM mail WHERE id > 3")
    shout(db, out_of(db), field="body", output_field="said")
    assert read(db, "SELECT body, said FROM out")[2:] == [("text 3", "TEXT 3")]
    assert read(db, others) == before
    assert read(db, "SELECT name, num_rows, num_failed, last_rowid FROM paw_mlx_runs") == [
        ("out", 3, 0, 3)
    ]


_BUSY_WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=2, isolation_level=None)
for number in range(1000, 100_000):
    connection.execute("INSERT INTO mail VALUES (?, 'late')", [number])
    print(number, flush=True)
    time.sleep(0.001)
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_others_write_meanwhile(tmp_path: Path, monkeypatch: Any, mode: str) -> None:
    monkeypatch.setattr(reading, "_PAGE_ROWS", 20)
    db = mail(tmp_path / "app.db", [(i, f"early {i}") for i in range(900)])
    assert read(db, f"PRAGMA journal_mode={mode}") == [(mode,)]
    command = [sys.executable, "-c", _BUSY_WRITER, str(db)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"1000\n"
        try:
            # Its end runs away while rows are read, so a view, which is taken at once, is the half.
            texts = shout(db, out_of(db), query="SELECT body FROM mail ORDER BY id")
            shout(f"sqlite:///{db}?table=mail", Table(db, "o2"), field="body", most=901)
            assert writer.poll() is None
        finally:
            writer.kill()
            said = writer.communicate()
    assert (texts[:900], texts[900]) == ([f"early {i}" for i in range(900)], "late")
    assert said[1] == b""
    assert [row[0] for row in read(db, "SELECT body FROM out LIMIT 900")] == texts[:900]
    assert read(db, "PRAGMA journal_mode") == [(mode,)]
    assert is_sound(db)


def test_in_wal_mode_the_database_itself_has_the_table(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db")
    read(db, "PRAGMA journal_mode=wal")
    shout(db, out_of(db), field="body")
    alone = tmp_path / "alone.db"
    alone.write_bytes(db.read_bytes())
    assert len(read(alone, "SELECT * FROM out")) == 10


def test_files_and_folders_that_nobody_writes_to_are_read(tmp_path: Path) -> None:
    with open_folder() as folder:
        db, wal = mail(folder / "app.db"), mail(folder / "wal.db")
        read(wal, "PRAGMA journal_mode=wal")
        db.chmod(0o444)
        inside = folder / "in"
        inside.mkdir()
        for path in (db, wal):
            os.link(path, inside / path.name)
        inside.chmod(0o555)
        with refused():
            assert len(shout(inside / "app.db", folder / "a.csv", field="body")) == 10
            with pytest.raises(DiskError) as found:
                shout(inside / "wal.db", folder / "b.csv", field="body")
            with pytest.raises(DiskError, match="Permission denied"):
                shout(db, out_of(db), field="body")
        assert found.value.hints == [
            "A database also needs a folder that one may write to, for its journal."
        ]
        with refused(db), pytest.raises(NotFound, match="Permission denied"):
            shout(db, folder / "c.csv", field="body")


def test_commands_read_and_write_tables(
    run: Paw, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    db = mail(tmp_path / "app.db")
    done = run(db, "--query", "SELECT body AS text FROM mail WHERE id < 3")
    assert [row["text"] for row in objects(done.stdout)] == ["text 1", "text 2"]
    done = run(db, "--field", "body", "-o", f"sqlite:///{db}?table=o", "--resume")
    assert (done.returncode, len(read(db, "SELECT * FROM o"))) == (0, 10), done.stderr
    done = run(db, "--field", "body", "-o", f"sqlite:///{db}?table=o", "--resume")
    place = part_of(Table(db, "o"))
    assert done.stderr == f"nothing to resume: the table o of {db} is there, {place} is not\n"
    assert run("sqlite:/x", "--field", "body").returncode == 1
    done = run(db, "--field", "body", "-o", "sqlite://x")
    assert (done.returncode, "names no file" in done.stderr) == (2, True)
    assert run(db, "--format", "sqlite", "-o", tmp_path / "a.csv").returncode == 2  # which field
    paw = inside(monkeypatch, capfdbinary)
    base = ["--interpreter", folder / "base"]
    words = ["rank", folder / "one.paw", db, "--field", "body", "--labels", "yes,no", *base]
    done = paw(*words)
    assert (done.returncode, len(objects(done.stdout))) == (0, 10), done.stderr
    done = paw(*words, "-o", f"sqlite:///{db}?table=ranked")
    assert (done.returncode, "ranked rows are lines" in done.stderr) == (1, True)
    done = paw("filter", folder / "one.paw", db, "--keep", "yes", "--labels", "yes,no", *base)
    assert (done.returncode, "is a table, and has no lines" in done.stderr) == (1, True), done


def test_a_python_without_sqlite3_still_maps_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    mail(tmp_path / "a.db")
    code = (
        "import sys; sys.modules['sqlite3'] = None\n"
        "from paw_mlx.rows.opening import open_source\n"
        "from paw_mlx.rows.run import RowFiles\n"
        "with open_source(['a.csv']) as s: print(len([*RowFiles.open(s).reader]))\n"
        "try:\n    open_source(['a.db']).__enter__()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.startswith("1\nOptionError this Python was built without sqlite3"), done
