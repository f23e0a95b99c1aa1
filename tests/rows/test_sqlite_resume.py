"""Tables that are stopped anywhere, or whose input has grown: no row is lost, none there twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from row_files import objects, table, wait_for, write_rows
from shell import Paw, paw, start
from sqlite_rows import MAIL, is_sound, mail, out_of, read, shout, write
from test_run import PROGRAM, Shouting

from paw_mlx.errors import InputTooLong, OptionError
from paw_mlx.rows.opening import open_source
from paw_mlx.rows.part import Part
from paw_mlx.rows.run import RowFiles, identity, map_rows, open_part
from paw_mlx.rows.sqlite.source import Rows
from paw_mlx.rows.target import Table, part_of, side_of
from paw_mlx.runner import Options

ALL = [text for _, text in MAIL]
OUT = "SELECT * FROM out ORDER BY rowid"


def rows_of(db: Path, name: str = "out") -> list[Any]:
    return read(db, f"SELECT * FROM {name} ORDER BY rowid")


def has_table(db: Path, name: str = "out") -> bool:
    return db.exists() and bool(read(db, f"SELECT 1 FROM sqlite_master WHERE name = '{name}'"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "words"),
    [("app.db", []), ("app.db", ["--unordered"]), ("rows.csv", []), ("rows.jsonl", [])],
)
def test_killed_and_resumed_is_undisturbed(
    folder: Path, options: list[object], tmp_path: Path, source: str, words: list[object]
) -> None:
    file = tmp_path / source
    if source == "app.db":
        texts = table(write_rows(tmp_path / "rows.csv", 150).read_bytes())
        mail(file, [(3 * i, row["text"]) for i, row in enumerate(texts)])
    else:
        write_rows(file, 150)
    calm, out = (Table(tmp_path / f"{name}.db", name) for name in ("calm", "out"))
    command = ["map", folder / "one.paw", file, *words, *options, "--batch-size", 6]
    command += ["--field", "body" if source == "app.db" else "text", "-o"]
    done = paw(*command, f"sqlite:///{calm.path}?table=calm")
    assert (done.returncode, "22 of 150 rows failed" in done.stderr) == (1, True), done.stderr
    for size in (100, 8_000, 18_000):
        with start(*command, f"sqlite:///{out.path}?table=out", "--resume", stdin=None) as process:
            wait_for(process, out, size)
            process.kill()
        assert not out.path.exists()
    done = paw(*command, f"sqlite:///{out.path}?table=out", "--resume")
    assert (done.returncode, "22 of 150 rows failed" in done.stderr) == (1, True), done.stderr
    assert "that were there" in done.stderr
    by = "row" if words else "rowid"
    found, wanted = (read(t.path, f"SELECT * FROM {t.name} ORDER BY {by}") for t in (out, calm))
    assert found == wanted
    assert len(found) == 150
    assert not part_of(out).exists()
    assert not side_of(part_of(out)).exists()


def test_rows_behind_the_last_are_found_by_key_and_those_before_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = mail(tmp_path / "app.db")
    shout(db, out_of(db), field="body", most=5)
    write(db, "DELETE FROM mail WHERE id IN (1, 3)", "UPDATE mail SET body = x'00' WHERE id = 2")
    seen: list[Any] = []
    page = Rows._page
    monkeypatch.setattr(Rows, "_page", lambda self, after: seen.append(after) or page(self, after))
    assert shout(db, out_of(db), field="body", resume=True) == ALL[5:]
    assert seen[0] == 5
    assert [row[:2] for row in rows_of(db)] == MAIL
    assert read(db, "SELECT num_rows, num_failed, last_rowid FROM paw_mlx_runs") == [(10, 2, 10)]


@pytest.mark.parametrize("grown", [False, True])
def test_a_part_cut_at_any_byte_goes_on_to_the_same(tmp_path: Path, grown: bool) -> None:
    db, out = tmp_path / "app.db", out_of(tmp_path / "out.db")
    mail(db, MAIL[:4])
    if grown:
        shout(db, out, field="body")
    before = out.path.read_bytes() if grown else None
    write(db, "INSERT INTO mail VALUES (?, ?)", rows=MAIL[4:])
    shout(db, out, field="body", resume=True, most=6 if grown else 9)
    part, side = part_of(out).read_bytes(), side_of(part_of(out)).read_bytes()
    first = part.index(b"\n") + 1 if grown else 0
    for end in {0, *range(first, len(part), 3), len(part)}:
        out.path.unlink(missing_ok=True)
        if before:
            out.path.write_bytes(before)
        part_of(out).write_bytes(part[:end])
        side_of(part_of(out)).write_bytes(side)
        ran = shout(db, out, field="body", resume=True)
        assert [row[:3] for row in rows_of(out.path)] == [
            (i, text, text.upper() if i % 4 else None) for i, text in MAIL
        ], part[:end]
        assert ran == ALL[4 + part[first:end].count(b"\n") if grown else part[:end].count(b"\n") :]


def test_only_rows_that_were_added_are_run(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db", [])
    out, ran = out_of(db), []
    for rows in (MAIL[:0], MAIL[:3], MAIL[3:3], MAIL[3:4], MAIL[4:]):
        if rows:
            write(db, "INSERT INTO mail VALUES (?, ?)", rows=rows)
        ran.append(shout(db, out, field="body", resume=True))
        assert not part_of(out).exists()
    assert ran == [[], ALL[:3], [], ALL[3:4], ALL[4:]]
    calm = Table(db, "calm")
    shout(f"sqlite:///{db}?table=mail", calm, field="body")
    assert rows_of(db) == rows_of(db, "calm")
    runs = read(db, "SELECT job, num_rows, num_failed, last_rowid FROM paw_mlx_runs")
    assert runs[0] == runs[1]
    assert runs[0][1:] == (10, 2, 10)


def test_an_error_of_an_added_row_counts_from_the_first_of_them(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db", MAIL[:3])
    out, runner = out_of(db), Shouting()
    shout(db, out, field="body")
    write(db, "INSERT INTO mail VALUES (?, ?)", rows=MAIL[4:])  # of which the fourth is wrong
    with open_source([db], output=out) as source:
        files = RowFiles.open(source, out, field="body")
        job = identity(runner, PROGRAM, files, Options())
        with (
            closing(open_part(out, job, files, True)) as sink,
            pytest.raises(InputTooLong) as raised,
        ):
            [*map_rows(runner, PROGRAM, files, sink, Options(), stop=True)]
    assert raised.value.hints[0].startswith("It is row 4's")


def test_a_column_called_rowid_is_no_rowid(tmp_path: Path) -> None:
    db = write(tmp_path / "app.db", "CREATE TABLE t (rowid TEXT, text TEXT)")
    for name in ("z", "a"):
        write(db, f"INSERT INTO t VALUES ('{name}', 'text {name}')")
        assert shout(db, out_of(db), resume=True, field="text") == [f"text {name}"]
    assert read(db, "SELECT rowid, output FROM out") == [("z", "TEXT Z"), ("a", "TEXT A")]


@pytest.mark.parametrize("key", ["INTEGER PRIMARY KEY", "INTEGER"])
def test_a_kill_between_the_commit_and_the_end_adds_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    db = mail(tmp_path / "app.db", MAIL[:3], key)
    out = out_of(db)

    def killed(self: Part) -> None:
        assert self._seal
        self._seal(self.path, self.output)
        raise KeyboardInterrupt

    for added in (MAIL[:0], MAIL[3:5], MAIL[5:6]):
        if added:
            write(db, "INSERT INTO mail VALUES (?, ?)", rows=added)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
            patch.setattr(Part, "finish", killed)
            shout(db, out, field="body", resume=True)
        assert part_of(out).exists()
    write(db, "INSERT INTO mail VALUES (?, ?)", rows=MAIL[6:])
    assert shout(db, out, field="body", resume=True) == ALL[6:]
    assert [row[:2] for row in rows_of(db)] == MAIL
    assert read(db, "SELECT num_rows, num_failed, last_rowid FROM paw_mlx_runs") == [(10, 2, 10)]
    # The same where what was killed had added to a table that was whole.
    write(db, "INSERT INTO mail VALUES (11, 'wrong'), (12, 'k')")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(Part, "finish", killed)
        shout(db, out, field="body", resume=True)
    assert len(rows_of(db)) == 12
    write(db, "INSERT INTO mail VALUES (13, 'm')")
    assert shout(db, out, field="body", resume=True) == ["m"]
    assert [row[0] for row in rows_of(db)] == [*range(1, 14)]
    assert read(db, "SELECT num_rows, num_failed, last_rowid FROM paw_mlx_runs") == [(13, 3, 13)]


def test_rows_that_came_or_moved_before_the_last_are_not_left_out_in_silence(
    tmp_path: Path,
) -> None:
    db = mail(tmp_path / "app.db", [(10 * i, text) for i, text in MAIL])
    shout(db, out_of(db), field="body")
    write(db, "INSERT INTO mail VALUES (15, 'between')")
    with pytest.raises(OptionError, match="has 11 rows up to rowid 100, where 10 were read"):
        shout(db, out_of(db), field="body", resume=True)
    free = mail(tmp_path / "free.db", MAIL, key="INTEGER")  # its rowids are SQLite's own
    shout(free, out_of(free), field="body", most=8)
    write(free, "DELETE FROM mail WHERE rowid < 4")
    write(free, "VACUUM")
    with pytest.raises(OptionError, match="has 7 rows up to rowid 8, where 8 were read"):
        shout(free, out_of(free), field="body", resume=True)
    assert not has_table(free)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.db"])
def test_what_has_no_keys_is_resumed_only_if_as_many_rows_are_there(
    tmp_path: Path, name: str
) -> None:
    db, out = mail(tmp_path / "app.db"), tmp_path / name
    query = "SELECT * FROM mail ORDER BY id" if name == "out.db" else None
    shout(db, out, field="body", query=query, most=5)
    write(db, "DELETE FROM mail WHERE id = 2")
    with pytest.raises(OptionError, match="num_rows was 10, now 9"):
        shout(db, out, field="body", query=query, resume=True)
    write(db, "INSERT INTO mail VALUES (2, 'text 2')")
    assert shout(db, out, field="body", query=query, resume=True) == ALL[5:]
    if name == "out.db":
        assert shout(db, out, field="body", query=query, resume=True) == []
        write(db, "INSERT INTO mail VALUES (11, 'new')")
        with pytest.raises(OptionError, match="has changed since: 10 rows then, 11 now"):
            shout(db, out, field="body", query=query, resume=True)
    else:
        data = out.read_bytes()
        assert len(table(data) if name == "out.csv" else objects(data)) == 10


def test_another_jobs_table_is_not_gone_on_with(run: Paw, tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db", MAIL[:3])
    words = [db, "--field", "body", "-o", f"sqlite:///{db}?table=out"]
    assert run(*words).returncode == 0
    before = rows_of(db)
    assert "nothing to resume" in run(*words, "--resume").stderr
    write(db, "INSERT INTO mail VALUES (4, 'd')")
    done = run(*words, "--temperature", 1, "--seed", 3, "--resume")
    said = f"error: the table out of {db} is of another job: temperature was 0.0, now 1.0, seed"
    assert (done.returncode, done.stderr.startswith(said)) == (1, True), done.stderr
    done = run(*words, "--unordered", "--resume")
    assert (done.returncode, "unordered was False, now True" in done.stderr) == (1, True)
    assert rows_of(db) == before
    assert "1 row in" in run(*words, "--resume").stderr
    file = tmp_path / "rows.csv"
    file.write_text("text\na\n")
    words = [file, "-o", tmp_path / "o.db"]
    assert run(*words).returncode == 0
    assert "nothing to resume" in run(*words, "--resume").stderr
    os.utime(file, (time.time() + 9, time.time() + 9))
    done = run(*words, "--resume")
    assert (done.returncode, f"was written before {file} was changed" in done.stderr) == (1, True)


def test_a_part_whose_table_has_gone_is_not_added_to_nothing(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db", MAIL[:3])
    shout(db, out_of(db), field="body")
    write(db, "INSERT INTO mail VALUES (?, ?)", rows=MAIL[3:])
    shout(db, out_of(db), field="body", resume=True, most=2)
    # As after an old backup was put back, and after somebody dropped it.
    for change in ("UPDATE paw_mlx_runs SET last_rowid = 1", "DROP TABLE out"):
        write(db, change)
        with pytest.raises(OptionError, match="is not what it was when"):
            shout(db, out_of(db), field="body", resume=True)
    part_of(out_of(db)).unlink()
    assert shout(db, out_of(db), field="body", resume=True) == ALL


def test_two_processes_do_not_write_one_table(
    run: Paw, folder: Path, options: list[object], tmp_path: Path
) -> None:
    out = Table(tmp_path / "out.db", "output")
    with start("map", folder / "one.paw", "-", "-o", out.path, *options) as first:
        assert first.stdin
        first.stdin.write(b"picnic\n")
        first.stdin.flush()
        wait_for(first, out, 0)
        db = mail(tmp_path / "app.db", MAIL[:2])
        for words in ([], ["--resume"]):
            done = run(db, "--field", "body", "-o", out.path, *words)
            assert done.stderr == f"error: another process is writing {part_of(out)}\n"
        other = f"sqlite:///{out.path}?table=other"
        assert run(db, "--field", "body", "-o", other).returncode == 0
        assert first.communicate(timeout=60)[1].startswith(b"1 row in")
    assert len(rows_of(out.path, "output")) == 1
    assert len(rows_of(out.path, "other")) == 2


_CHILD = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from sqlite_rows import out_of, shout
from paw_mlx.rows.part import Part
from paw_mlx.rows.sqlite import making

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

at, read = int(sys.argv[4]), making.read_journal
def read_some(path):
    for number, row in enumerate(read(path)):
        if number == at:
            kill()
        yield row
making.read_journal = read_some
finish = Part.finish
def finish_loudly(self):
    print("sealing", flush=True)
    finish(self)
Part.finish = finish_loudly
shout(Path(sys.argv[3]), out_of(Path(sys.argv[3])), field="body", resume=True)
"""


@pytest.mark.slow
def test_killed_while_the_table_is_made_leaves_the_old_one_or_the_new(tmp_path: Path) -> None:
    rows = [(i, f"text {i} " * 30) for i in range(4000)]
    chance, here = random.Random(17), Path(__file__).parent
    calm = mail(tmp_path / "calm.db", rows)
    shout(calm, out_of(calm), field="body")
    wanted = rows_of(calm)
    ends = []
    for number in range(10):
        db = mail(tmp_path / f"{number}.db", rows[:2000] if number % 2 else rows)
        if number % 4 < 2:
            read(db, "PRAGMA journal_mode=wal")
        if number % 2:  # half of it is there, and the other half is added
            shout(db, out_of(db), field="body")
            write(db, "INSERT INTO mail VALUES (?, ?)", rows=rows[2000:])
        # Inside the transaction, by row (even numbers), or at any time from its beginning on.
        at = chance.randrange(2000) if number < 6 else -1
        command = [sys.executable, "-c", _CHILD, str(here.parent), str(here), str(db), str(at)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout
            assert child.stdout.readline() == b"sealing\n", child.communicate()
            if at < 0:
                time.sleep(chance.random() * 0.1)
                child.kill()
            child.communicate(timeout=60)
            assert child.returncode in (-signal.SIGKILL, 0)
        # A reader that may not write finds it sound, and all of a table.
        found = len(rows_of(db)) if has_table(db) else 0
        assert found in ((2000, 4000) if number % 2 else (0, 4000))
        ends.append(found)
        assert shout(db, out_of(db), field="body", resume=True) == []
        assert rows_of(db) == wanted
        assert read(db, "SELECT num_rows, last_rowid FROM paw_mlx_runs") == [(4000, 3999)]
        assert is_sound(db)
        assert sorted(p.name for p in tmp_path.glob(f"{number}.db*")) == [f"{number}.db"]
    assert {0, 2000} <= {*ends}


def test_a_hot_journal_is_rolled_back_before_it_is_read(tmp_path: Path) -> None:
    db = mail(tmp_path / "app.db", [(i, f"text {i} " * 400) for i in range(200)])
    code = (
        "import os, signal, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size=5')\n"
        "c.execute('BEGIN')\n"
        "c.execute(\"UPDATE mail SET body = 'half done'\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(db)], check=False)
    assert (tmp_path / "app.db-journal").stat().st_size > 0
    texts = shout(db, tmp_path / "out.csv", field="body")
    assert (len(texts), texts[3]) == (200, "text 3 " * 400)
