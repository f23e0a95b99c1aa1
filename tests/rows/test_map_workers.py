"""`paw-mlx map --workers N`: the rows of a calm run, whoever computes them; and wrong calls."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from row_files import interrupted, write_rows
from shell import Paw

from paw_mlx.rows.target import part_of


@pytest.mark.parametrize("first", [[], ["--workers", 2]], ids=["plain", "workers"])
def test_a_run_goes_on_whoever_computes_it(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: list[object]
) -> None:
    then = [] if first else ["--workers", 2]
    file = write_rows(tmp_path / "rows.csv", 60)
    calm, out = tmp_path / "calm.csv", tmp_path / "out.csv"
    run(file, "-o", calm)
    interrupted(run, monkeypatch, file, "-o", out, *first)
    done = run(file, "-o", out, *then, "--resume")
    assert "after 20 that were there" in done.stderr, done.stderr
    assert (done.returncode, out.read_bytes()) == (1, calm.read_bytes())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--workers", 0], "Invalid value for '--workers': 0 is not in the range x>=1"),
        (["--workers", "two"], "'two' is not a valid integer"),
        (["--ray="], "Invalid value for '--ray': '' is no address"),
        (["--ray=cluster"], "'cluster' is no address (local, auto, HOST:PORT or ray://HOST:PORT)"),
        (["--ray=head:ten"], "'head:ten' is no address"),
        (["--ray=http://head:10001"], "'http://head:10001' is no address"),
    ],
)
def test_a_wrong_call_says_what_can_be_meant(
    run: Paw, tmp_path: Path, words: list[object], sentence: str
) -> None:
    done = run(write_rows(tmp_path / "rows.txt", 3), *words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert sentence in done.stderr


def test_a_file_behind_ray_is_not_taken_for_a_cluster(run: Paw, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.txt", 3)
    done = run("--ray", file)
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"{str(file)!r} is no address" in done.stderr
    assert "write --ray behind all arguments, or --ray=local" in done.stderr


def test_where_ray_is_missing_nothing_is_begun(
    run: Paw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_rows(tmp_path / "rows.txt", 3), tmp_path / "out.txt"
    monkeypatch.setitem(sys.modules, "ray", None)
    for words in (["--ray"], ["--ray", "auto"], ["--ray", "[::1]:6379", "--workers", 2]):
        done = run(file, "-o", out, *words)
        assert (done.returncode, done.stdout) == (1, b"")
        assert "hint: `pip install 'paw-mlx[ray]'` brings it" in done.stderr
    assert not part_of(out).exists()
