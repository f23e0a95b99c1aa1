"""`paw-mlx map -o OUT.parquet`, stopped anywhere: no row is lost, and none is there twice."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import tiny
from parquet_rows import every_type, read, write
from row_files import TEXTS, interrupted, table, wait_for, write_rows
from shell import Paw, inside, paw, start
from sqlite_rows import shout

from paw_mlx import Labels, Schema, formats
from paw_mlx.rows.target import part_of, side_of

SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}},
    "required": ["sure"],
    "additionalProperties": False,
}


def write_parquet(folder: Path, num_rows: int, ballast: int = 0) -> Path:
    """The rows of `write_rows`, in many row groups."""
    rows = table(write_rows(folder / "rows.csv", num_rows).read_bytes())
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in ("id", "text")}
    if ballast:
        columns["ballast"] = [os.urandom(ballast) for _ in rows]
    return write(folder / "rows.parquet", columns, row_group_size=40)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["rows.parquet", "rows.csv", "rows.jsonl"])
def test_killed_and_resumed_is_undisturbed(
    folder: Path, options: list[object], tmp_path: Path, source: str
) -> None:
    file = tmp_path / source
    write_parquet(tmp_path, 150) if file.suffix == ".parquet" else write_rows(file, 150)
    calm, out = tmp_path / "calm.parquet", tmp_path / "out.parquet"
    command = ["map", folder / "one.paw", file, *options, "--batch-size", 6, "--field", "text"]
    done = paw(*command, "-o", calm)
    assert (done.returncode, "22 of 150 rows failed" in done.stderr) == (1, True), done.stderr
    before = file.read_bytes()
    for size in (100, 4_000):
        with start(*command, "-o", out, "--resume", stdin=None) as process:
            wait_for(process, out, size)
            process.kill()
        assert not out.exists()
    done = paw(*command, "-o", out, "--resume")
    assert (done.returncode, "22 of 150 rows failed" in done.stderr) == (1, True), done.stderr
    assert "that were there" in done.stderr
    assert out.read_bytes() == calm.read_bytes()
    assert (file.read_bytes(), part_of(out).exists(), side_of(part_of(out)).exists()) == (
        before, False, False,
    )  # fmt: skip
    assert "nothing to resume" in paw(*command, "-o", out, "--resume").stderr


def wait_until(process: subprocess.Popen[bytes], is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(0.001)
        assert process.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("source", ["rows.parquet", "rows.csv"])
def test_killed_while_all_is_joined_it_is_joined_again(
    folder: Path, options: list[object], tmp_path: Path, source: str
) -> None:
    file = tmp_path / source
    if file.suffix == ".parquet":
        write_parquet(tmp_path, 40, ballast=1 << 20)
    else:
        file.write_text("id,text\n" + "".join(f"{'y' * 900_000}{i},picnic\n" for i in range(40)))
    calm, out = tmp_path / "calm.parquet", tmp_path / "out.parquet"
    command = ["map", folder / "one.paw", file, *options, "--field", "text", "-o"]
    calmly = paw(*command, calm)
    with start(*command, out, stdin=None) as process:
        wait_until(process, lambda: any(tmp_path.glob(".out.parquet.paw-*/*")))
        process.kill()
    assert part_of(out).read_bytes().count(b"\n") == 40
    assert not out.exists()
    done = paw(*command, out, "--resume")
    assert (done.returncode, "0 rows in" in done.stderr) == (calmly.returncode, True), done.stderr
    assert out.read_bytes() == calm.read_bytes()
    assert not part_of(out).exists()


def test_a_part_cut_at_any_byte_goes_on_to_the_same(tmp_path: Path) -> None:
    given = every_type().select(["text", "zoned", "list", "category"])
    file, out = write(tmp_path / "in.parquet", given), tmp_path / "out.parquet"
    shout(file, out, field="text")
    whole = out.read_bytes()
    part, side = part_of(out), side_of(part_of(out))
    out.unlink()
    shout(file, out, field="text", most=5)
    record, data = side.read_text(), part.read_bytes()
    for end in range(len(data) + 1):
        part.write_bytes(data[:end])
        side.write_text(record)
        shout(file, out, field="text", resume=True)
        assert out.read_bytes() == whole
        out.unlink()


def test_what_was_done_is_not_run_again(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(9)]
    files = [
        write(tmp_path / f"{name}.parquet", {"text": texts[i : i + 3]}, row_group_size=2)
        for name, i in (("a", 0), ("b", 3), ("c", 6))
    ]
    shout(files, tmp_path / "out.parquet", most=5)
    assert shout(files, tmp_path / "out.parquet", resume=True) == texts[5:]
    found = read(tmp_path / "out.parquet")
    assert [row["output"] for row in found] == [text.upper() for text in texts]
    assert shout(files, tmp_path / "out.parquet", resume=True) == []


def test_another_file_is_refused(run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = write_parquet(tmp_path, 60), tmp_path / "out.parquet"
    interrupted(run, monkeypatch, file, "-o", out, "--field", "text")
    before = part_of(out).read_bytes()
    rows = read(file)
    rows[-1]["text"] = "other words"
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    write(file, columns, row_group_size=40)
    done = run(file, "-o", out, "--field", "text", "--resume")
    assert (done.returncode, f"{file} has changed since" in done.stderr) == (1, True), done.stderr
    assert part_of(out).read_bytes() == before


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (Labels(("disk", "server", "picnic")), ["--probability-field", "p"]),
        (Labels(("disk", "server", "picnic"), otherwise="unsure"), ["--threshold", "0.4"]),
        (Schema.of(SCHEMA), []),
    ],
    ids=["labels", "threshold", "schema"],
)
def test_typed_outputs_are_those_of_a_csv(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: Any,
    output: Any,
    words: list[object],
) -> None:
    program = tmp_path / "typed.paw"
    formats.save(
        replace(tiny.program("llama", 1), output=output),
        program,
        dtype="f32",
        profile=tiny.profile("llama"),
    )
    texts = [*TEXTS[:12], "x" * 900]
    write(tmp_path / "in.parquet", {"text": texts})
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    call = inside(monkeypatch, capfdbinary)
    for given, made in [("parquet",) * 2, ("csv",) * 2, ("parquet", "csv"), ("csv", "parquet")]:
        out = tmp_path / f"of-{given}.{made}"
        where = [tmp_path / f"in.{given}", "-o", out, "--interpreter", folder / "base"]
        done = call("map", program, *where, *words)
        assert (done.returncode, "1 of 13 rows failed" in done.stderr) == (1, True), done.stderr
    sheets = [table((tmp_path / f"of-{one}.csv").read_bytes()) for one in ("csv", "parquet")]
    tables = [read(tmp_path / f"of-{one}.parquet") for one in ("csv", "parquet")]
    for row in [*chain(*sheets), *chain(*tables)]:
        if row.get("p"):  # bits vary from run to run
            row["p"] = type(row["p"])(round(float(row["p"]), 5))
    assert sheets[0] == sheets[1]
    assert tables[0] == tables[1]
    assert len({row["output"] for row in tables[0]}) > 1
    assert [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in tables[0]
    ] == sheets[0]
    if "--probability-field" in words:
        assert isinstance(tables[0][0]["p"], float)
        assert tables[0][-1]["p"] is None
