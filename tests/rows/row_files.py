"""Rows that tests of `map` read and write, and runs that stop before their end."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from shell import Paw

from paw_mlx import Function
from paw_mlx.rows.part import Part
from paw_mlx.rows.target import Target, part_of

WORDS = ["the disk", "server", "picnic", "Friday", "down", "spring", "世界", "all are welcome"]
TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS]


def outputs(fn: Function, texts: list[str]) -> list[str]:
    return [fn(text, max_tokens=8) for text in texts]


def answered(fn: Function, text: str) -> dict[str, str]:
    """What a row of JSON gains."""
    result = fn.run(text, max_tokens=8)
    cut = {"finish_reason": "length"} if result.finish_reason == "length" else {}
    return {"output": result.text, **cut}


def objects(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().splitlines()]


def table(data: bytes, **dialect: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), **dialect))


def by_number(file: Path) -> list[Any]:
    data = file.read_bytes()
    rows = objects(data) if file.suffix == ".jsonl" else table(data)
    return sorted(rows, key=lambda row: int(row["row"]))


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


def wait_for(process: subprocess.Popen[bytes], out: Target, size: float) -> None:
    """Until a process has written more than so many bytes to OUT.part."""
    part = part_of(out)
    while not (part.exists() and part.stat().st_size > size):
        time.sleep(0.002)
        assert process.poll() is None


def interrupted(run: Paw, monkeypatch: pytest.MonkeyPatch, *words: object, rows: int = 20) -> None:
    """A run that stops, as a kill would, after some rows."""
    write, left = Part.write, [rows]

    def until(self: Part, *row: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, *row)

    with monkeypatch.context() as patch:
        patch.setattr(Part, "write", until)
        assert run(*words).returncode == 130
