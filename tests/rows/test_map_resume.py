"""`paw-mlx map -o OUT`, stopped anywhere: no row is lost, and none is there twice."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from pathlib import Path

import pytest
import tiny
from row_files import by_number, interrupted, wait_for, write_rows
from shell import Paw, paw, start

from paw_mlx.rows.part import Part
from paw_mlx.rows.run import RowFiles
from paw_mlx.rows.source import open_input
from paw_mlx.rows.target import part_of, side_of
from paw_mlx.runner import Result


@pytest.mark.slow
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
    part, size = part_of(out), calm.stat().st_size
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "unordered"),
    [(".txt", False), (".jsonl", False), (".jsonl", True), (".csv", False), (".csv", True)],
)
def test_a_part_cut_at_any_byte_goes_on_to_the_same(
    tmp_path: Path, suffix: str, unordered: bool
) -> None:
    rows = [("1", 'a "b",\r\nc'), ("2", "d"), ("3", '"\n'), ("4", ""), ("5", "世界")]
    file = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([("id", "text"), *rows])
    else:
        file.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in rows))

    def map_to(out: Path, resume: bool) -> None:
        with open_input(str(file)) as given:
            files = RowFiles.open(given, out, unordered=unordered)
            with contextlib.closing(Part(out, {}, files.writer, resume)) as part:
                assert (part.path.read_bytes() or b"\n").endswith(b"\n")
                found = [row for row in files.reader if row and row.number not in part.done]
                for row in found[::-1] if unordered else found:
                    text = f'{row.text}", \n\r{row.number}'
                    result = Result(text, "length", 0, 1, 1, 0.0, 0.0)
                    data = files.writer.row(row, result)
                    part.write(row.number, data, False)
                part.finish()

    calm, out = tmp_path / f"calm{suffix}", tmp_path / f"out{suffix}"
    map_to(calm, False)
    whole = calm.read_bytes()
    record = json.dumps({"job": {}, "num_failed": 0, "last_failed": None})
    for end in range(len(whole) + 1):
        part_of(out).write_bytes(whole[:end])
        side_of(part_of(out)).write_text(record)
        map_to(out, True)
        if unordered:
            assert by_number(out) == by_number(calm), whole[:end]
        else:
            assert out.read_bytes() == whole, whole[:end]


def test_an_interrupted_run_is_neither_lost_nor_overwritten(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.jsonl", 60), tmp_path / "out.jsonl"
    part = part_of(out)
    interrupted(run, monkeypatch, file, "-o", out)
    before = part.read_bytes()
    assert before.count(b"\n") == 20
    done = run(file, "-o", out)
    assert (done.returncode, "--resume" in done.stderr) == (1, True)
    assert part.read_bytes() == before
    assert run(file, "-o", out, "--resume").returncode == 1  # rows failed, the first of them before
    assert out.read_bytes().startswith(before)
    whole = out.read_bytes()
    side = side_of(part)
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
    before = part_of(out).read_bytes()
    (tmp_path / "copy.jsonl").write_bytes(file.read_bytes())
    said = f"error: {part_of(out)} is of another job: "
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
    assert part_of(out).read_bytes() == before


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
    before = part_of(out).read_bytes()
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
    part = part_of(out)
    part.write_bytes(part.read_bytes() + b"\0\0\n")
    done = run(file, "-o", out, "--unordered", "--resume")
    assert (done.returncode, "is damaged after 20 rows" in done.stderr) == (1, True)
    file, out = write_rows(tmp_path / "rows.csv", 60), tmp_path / "out.csv"
    interrupted(run, monkeypatch, file, "-o", out)
    part = part_of(out)
    damaged = part.read_bytes().replace(b"0,xxx", b'"0"0,xxx', 1)
    assert damaged != part.read_bytes()
    part.write_bytes(damaged)
    done = run(file, "-o", out, "--resume")
    assert (done.returncode, "is damaged after 0 rows" in done.stderr) == (1, True)
    assert part.read_bytes() == damaged


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
            assert done.stderr == f"error: another process is writing {part_of(out)}\n"
        assert first.communicate(timeout=60)[1].startswith(b"1 row in")
    assert out.read_bytes().count(b"\n") == 1


# `Part._note` is what goes to the disk before an error does. No public step is that alone, so the
# next three tests put the fault of a disk, or a kill, in its place.


def test_a_full_disk_is_one_sentence_and_keeps_whole_rows(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.txt", 60), tmp_path / "out.txt"
    note = Part._note

    def full(self: Part, last: int | None) -> None:
        if last and last > 20:
            raise OSError(28, "No space left on device")
        note(self, last)

    with monkeypatch.context() as patch:
        patch.setattr(Part, "_note", full)
        done = run(file, "-o", out)
    assert (done.returncode, out.exists()) == (1, False)
    assert f"cannot write {part_of(out)}: No space left on device" in done.stderr
    assert f"hint: {part_of(out)} holds 21 rows: go on with --resume." in done.stderr
    assert "9 of 60 rows failed" in run(file, "-o", out, "--resume").stderr


def test_an_error_that_was_counted_before_its_row_was_written_counts_once(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.csv", 60), tmp_path / "out.csv"
    note = Part._note

    def stop(self: Part, last: int | None) -> None:
        note(self, last)
        if last and last > 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Part, "_note", stop)
        assert run(file, "-o", out).returncode == 130
    assert "9 of 60 rows failed" in run(file, "-o", out, "--resume").stderr


def test_what_cannot_begin_leaves_nothing_behind(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Part, last: int | None) -> None:
        side_of(self.path).touch()
        raise OSError(28, "No space left on device")

    file = write_rows(tmp_path / "rows.txt", 3)
    monkeypatch.setattr(Part, "_note", full)
    assert run(file, "-o", tmp_path / "out.txt").returncode == 1
    assert [*tmp_path.iterdir()] == [file]
