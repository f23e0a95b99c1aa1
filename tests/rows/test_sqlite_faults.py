"""SQLite databases that are damaged, locked, endless or out of room: one sentence each."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from shell import start
from sqlite_rows import is_sound, mail, out_of, read, shout, write

from paw_mlx.errors import DiskError, FormatError, PawError
from paw_mlx.rows.sqlite import database
from paw_mlx.rows.target import Table, part_of

HERE = Path(__file__).parent
PATHS = f"import sys; sys.path[:0] = [{str(HERE.parent)!r}, {str(HERE)!r}]\n"

# In a process of its own, as what it looks for is a crash.
_FLIPS = """
import random
from pathlib import Path
from sqlite_rows import out_of, shout
from paw_mlx.errors import PawError
whole, db = Path("whole.db").read_bytes(), Path("flipped.db")
chance, said, right = random.Random(5), set(), 0
for number in range(300):
    data = bytearray(whole)
    for _ in range(1 + number % 3):
        at = chance.randrange(100 if number % 4 == 0 else 4096 if number % 4 == 1 else len(data))
        data[at] ^= 1 << chance.randrange(8)
    db.write_bytes(data if number % 10 else data[: chance.randrange(len(data))])
    for place, query in ("sqlite:///flipped.db?table=mail", None), (db, "SELECT * FROM v"):
        Path("o.jsonl").unlink(missing_ok=True)
        for part in Path().glob("*.part*"):
            part.unlink()
        try:
            shout(place, out_of(db) if number % 2 else Path("o.jsonl"), field="body", query=query)
            right += 1
        except PawError as error:
            assert "\\n" not in str(error) and len(str(error)) < 300, error
            said.add(type(error).__name__)
print(right, *sorted(said))
"""


@pytest.mark.slow
def test_flipped_bits_are_a_sentence_or_rows(tmp_path: Path) -> None:
    db = mail(tmp_path / "whole.db", [(i, f"text {i} " * (900 if i % 9 == 0 else 20))
                                      for i in range(60)])  # fmt: skip
    write(db, "CREATE INDEX by_body ON mail (body)",
          "CREATE VIEW v AS SELECT * FROM mail ORDER BY body",
          "CREATE TRIGGER t AFTER INSERT ON mail BEGIN DELETE FROM mail; END")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PATHS + _FLIPS], cwd=tmp_path, capture_output=True, timeout=110
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    right, *said = done.stdout.decode().split()
    assert 200 < int(right) < 550
    assert "FormatError" in said


def test_rows_out_of_order_do_not_go_round_for_ever(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db", [(i, f"text {i} " * 40) for i in range(100, 4000)])
    data = bytearray(db.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    root = (read(db, "SELECT rootpage FROM sqlite_master")[0][0] - 1) * size
    assert data[root] == 5  # an interior page: its cells are a child and its last rowid
    cells = [int.from_bytes(data[root + 12 + 2 * i :][:2], "big") for i in range(2)]
    first, second = (data[root + at : root + at + 4] for at in cells)
    data[root + cells[0] :][:4] = second
    data[root + cells[0] : root + cells[0] + 4] = second
    data[root + cells[1] : root + cells[1] + 4] = first
    db.write_bytes(data)
    with pytest.raises(FormatError, match=r"is damaged|out of order"):
        shout(db, tmp_path / "out.jsonl", field="body")


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    whole = mail(tmp_path / "whole.db").read_bytes()
    for name, data, message in [
        ("secret.db", random.Random(1).randbytes(8192), "is no SQLite database, or is encrypted"),
        ("text.db", b"id,text\n1,a\n" * 99, "is no SQLite database, or is encrypted"),
        ("short.db", whole[:5000], "is damaged"),
        ("zeros.db", whole[:4096] + bytes(4096), "is damaged"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FormatError, match=message):
            shout(tmp_path / name, tmp_path / "o.csv", field="body")


def test_a_view_runs_nothing_but_what_reading_takes(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db")
    write(db, "CREATE VIEW evil AS SELECT load_extension('evil.so') AS body")
    with pytest.raises(PawError, match="load_extension"):
        shout(f"sqlite:///{db}?table=evil", tmp_path / "o.csv", field="body")
    other = tmp_path / "made.db"
    with pytest.raises(PawError):
        shout(db, tmp_path / "o.csv", query=f"ATTACH '{other}' AS x")
    assert not other.exists()


def test_a_view_of_what_sqlite_says_of_itself_is_not_read(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db")
    write(db, "CREATE VIEW evil AS SELECT file AS body FROM pragma_database_list")
    with pytest.raises(FormatError, match="unsafe use of virtual table"):
        shout(f"sqlite:///{db}?table=evil", tmp_path / "o.csv", field="body")


def test_a_journal_that_names_a_file_does_not_remove_it(tmp_path: Path) -> None:
    victim = tmp_path / "thesis.txt"
    victim.write_text("years of work")
    db, name = tmp_path / "app.db", os.fsencode(victim)
    with closing(sqlite3.connect(tmp_path / "made.db", isolation_level=None)) as made:
        made.execute("PRAGMA cache_size=5")  # so that the change reaches the disk
        made.execute("CREATE TABLE mail(body TEXT)")
        made.executemany("INSERT INTO mail VALUES(?)", [("x" * 2000,)] * 100)
        made.execute("BEGIN")
        made.execute("UPDATE mail SET body = 'y'")
        db.write_bytes((tmp_path / "made.db").read_bytes())
        journal = (tmp_path / "made.db-journal").read_bytes()
    page, magic = int.from_bytes(journal[24:28], "big"), journal[:8]
    numbers = ((1 << 30) // page + 1, len(name), sum(name))
    where, length, check = (number.to_bytes(4, "big") for number in numbers)
    beside = tmp_path / "app.db-journal"
    beside.write_bytes(journal + where + name + length + check + magic)
    with pytest.raises(FormatError, match="would remove a file that app"):
        shout(db, tmp_path / "o.csv", field="body")
    assert victim.read_text() == "years of work"
    beside.write_bytes(journal)  # a change of one database is undone
    assert shout(db, tmp_path / "o.csv", field="body")
    assert not beside.exists()


@contextmanager
def locked(db: Path, how: str) -> Iterator[None]:
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute(f"BEGIN {how}")
        yield


def test_a_lock_that_stays_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_S", 0.3)
    db, out = mail(tmp_path / "app.db"), out_of(tmp_path / "out.db")
    with locked(db, "EXCLUSIVE"), pytest.raises(DiskError) as found:
        shout(db, out, field="body")
    said = f"cannot read {db}: another process has kept it locked for 0 s"
    assert (str(found.value), found.value.hints) == (said, ["Try again when that one is done."])
    mail(out.path)
    with locked(out.path, "IMMEDIATE"), pytest.raises(DiskError, match="cannot write") as found:
        shout(db, out, field="body")
    assert found.value.hints[-1] == f"{part_of(out)} holds 10 rows: go on with --resume."
    assert shout(db, out, field="body", resume=True) == []
    assert len(read(out.path, "SELECT * FROM out")) == 10


def test_a_table_that_goes_meanwhile_is_said(tmp_path: Path) -> None:
    from paw_mlx.rows.opening import open_source
    from paw_mlx.rows.run import RowFiles

    db = mail(tmp_path / "app.db")
    with open_source([db]) as source:
        reader = RowFiles.open(source, field="body").reader
        write(db, "DROP TABLE mail")
        with pytest.raises(FormatError, match=r"cannot read .* no such table"):
            next(iter(reader))


_FULL = """
import resource, signal
from pathlib import Path
from sqlite_rows import out_of, shout
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_150_000, 1_150_000))
try:
    shout(Path("app.db"), out_of(Path("app.db")), field="body")
except Exception as error:
    print(type(error).__name__, error, *error.hints, sep="|")
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_full_disk_leaves_the_database_as_it_was(tmp_path: Path, mode: str) -> None:
    db = mail(tmp_path / "app.db", [(i, f"text {i} " * 90) for i in range(600)])
    read(db, f"PRAGMA journal_mode={mode}")
    before = read(db, "SELECT * FROM mail")
    done = subprocess.run(
        [sys.executable, "-c", PATHS + _FULL], cwd=tmp_path, capture_output=True, text=True
    )
    kind, said, *hints = done.stdout.strip().split("|")
    assert (kind, said.startswith("cannot write app.db: ")) == ("DiskError", True), done
    assert hints[-1] == "app.db.out.part holds 600 rows: go on with --resume."
    assert (is_sound(db), read(db, "SELECT * FROM mail") == before) == (True, True)
    assert read(db, "SELECT name FROM sqlite_master") == [("mail",)]
    assert shout(db, out_of(db), field="body", resume=True) == before[600:]
    assert len(read(db, "SELECT * FROM out")) == 600


def test_an_endless_query_ends_with_ctrl_c(
    folder: Path, options: list[object], tmp_path: Path
) -> None:
    db = mail(tmp_path / "app.db")
    query = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT max(x) AS text FROM n"
    )
    command = ["map", folder / "one.paw", db, "--query", query, *options, "-o", tmp_path / "o.csv"]
    with start(*command) as process:
        time.sleep(3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in stderr) == (130, False), stderr


def test_no_file_is_left_open(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db")
    shout(db, out_of(db), field="body")
    folder = Path("/proc/self/fd")
    if folder.exists():
        links = [str(link.readlink()) for link in folder.iterdir() if link.is_symlink()]
        assert not [link for link in links if link.startswith(str(tmp_path))]
    assert shout(db, Table(db, "again"), field="body")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.db"]
