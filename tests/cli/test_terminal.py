"""What texts of files, programs and models do to a terminal: nothing."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reports
import tiny
from shell import Paw, start

from paw_mlx import formats, jobs, kept_cases, store
from paw_mlx.cases import Case
from paw_mlx.cli.bench import finish
from paw_mlx.cli.common import printable, quoted
from paw_mlx.cli.demo_english import cut
from paw_mlx.client.places import log_path
from paw_mlx.output import Labels
from paw_mlx.words import harmless

EVIL = "\x1b]0;title\x07\x1b[31m\u202e\x9b1m\rover"
OBEYED = set(EVIL) - set(harmless(EVIL))
LABELS = (f"a{EVIL}", f"b{EVIL}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose labels are hostile, and rows and cases of that kind."""
    folder = tmp_path_factory.mktemp("terminal")
    tiny.write_base(folder / "base", "llama")
    for name, labels in (("evil", LABELS), ("other", (f"c{EVIL}", f"d{EVIL}"))):
        program = replace(tiny.program("llama", 1), output=Labels(labels))
        program = replace(program, interpreter=str(folder / "base"))
        formats.save(program, folder / f"{name}.paw", "f32", profile=tiny.profile("llama"))
    rows = [{"input": f"{n}{EVIL}", f"k{EVIL}": EVIL} for n in range(3)]
    cases = [{"input": f"{n}{EVIL}", "output": f"{o}{EVIL}"} for n, o in enumerate("abcdabab")]
    for name, found in (("rows", rows), ("cases", cases)):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "rows.csv").write_text(f"input,k{EVIL[:-5]}\r\n1,2\r\n", encoding="utf-8")
    (folder / "specs.jsonl").write_text(json.dumps({"spec": "Sort it.", "name": f"x{EVIL}"}))
    return folder


def shown(*words: object, stderr: bool = False) -> str:
    """What a command prints on a terminal: its standard output, or with it standard error, too."""
    ours, theirs = pty.openpty()
    others: dict[str, Any] = {"stderr": theirs} if stderr else {}
    seen = b""
    with start(*words, stdout=theirs, **others) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):
            while data := os.read(ours, 4096):
                seen += data
        process.communicate(timeout=60)
    os.close(ours)
    return seen.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_an_output_is_bytes_in_a_pipe_and_harmless_on_a_terminal(folder: Path, call: Paw) -> None:
    words = ["run", folder / "evil.paw", "hi"]
    label = call(*words).stdout.decode().removesuffix("\n")
    assert label in LABELS
    assert shown(*words) == f"{harmless(label)}\n"
    assert json.loads(call(*words, "--json").stdout)["text"] == label
    record = shown(*words, "--json")
    assert not OBEYED & {*record}
    assert json.loads(record)["text"] == label


@pytest.mark.slow
def test_no_command_lets_a_terminal_obey_a_text(folder: Path) -> None:
    program, cases = folder / "evil.paw", folder / "cases.jsonl"
    rows = folder / "rows.jsonl"
    turned = replace(formats.load(program), output=Labels(("a\u202eb", "c")))
    store.add(turned, "turned", profile=tiny.profile("llama"))
    log_path().parent.mkdir(parents=True)
    log_path().write_text(f"{EVIL}\n", encoding="utf-8")
    for words in (
        ["run", program, "hi", "--stream"],
        ["map", program, rows],
        ["map", program, folder / "rows.csv"],
        ["rank", program, rows],
        ["filter", program, rows, "--keep", LABELS[0], "--keep", LABELS[1]],
        ["test", program, cases],
        ["compare", program, folder / "other.paw", cases],
        ["calibrate", program, cases, "-o", folder / "made.paw", "--labels", ",".join(LABELS)],
        ["drift", program, rows, "--cases", cases],
        ["lint", "-f", folder / "specs.jsonl"],
        ["inspect", program],
        ["mac", "show", "turned", "--as", "applescript"],
        ["daemon", "logs"],
    ):
        seen = shown(*words, stderr=True)
        assert seen.strip(), words
        assert not (OBEYED - {"\r"}) & {*seen}, (words, seen)  # which draws a bar anew


def test_rows_of_json_keep_their_values(folder: Path) -> None:
    lines = shown("map", folder / "evil.paw", folder / "rows.jsonl").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["input"] for row in rows] == [f"{n}{EVIL}" for n in range(3)]
    assert {row[f"k{EVIL}"] for row in rows} == {EVIL}
    assert {row["output"] for row in rows} <= {*LABELS}


@pytest.mark.parametrize("text", ["می\u200cخواهم", "👩\u200d💻 \U0001fae8", "日本\u3000語"])
def test_what_people_write_stays_as_it_is_in_tables(text: str) -> None:
    assert printable(text) == text
    assert quoted(text) == f'"{text}"'


def test_a_demo_shows_one_harmless_line() -> None:
    assert cut(f"two{EVIL}\nlines") == f"two{printable(EVIL[:-5])} over lines"


def test_an_error_has_its_color_on_a_terminal_and_obeys_nothing() -> None:
    seen = shown("inspect", f"none{EVIL}", stderr=True)
    head = "\x1b[31m\x1b[1merror:\x1b[0m "
    assert seen.startswith(head)
    assert not OBEYED & {*seen.removeprefix(head)}


def test_results_of_benchmarks_are_harmless(tmp_path: Path, call: Paw) -> None:
    made = reports.speed(machine={**reports.CARD, "chip": f"chip{EVIL}"})
    for name, report in (("before", made), ("after", reports.speed())):
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    seen = call("bench", "compare", tmp_path / "before.json", tmp_path / "after.json").stdout
    assert b"\\u001b]0;title" in seen
    assert not OBEYED & {*seen.decode()}


def test_a_report_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    finish(reports.speed(machine={**reports.CARD, "chip": f"chip{EVIL}"}), None, as_json=False)
    seen = capsys.readouterr().out
    assert "\\u001b]0;title" in seen
    assert not OBEYED & {*seen}


@pytest.mark.slow
def test_what_people_read_is_harmless_in_a_pipe_too(folder: Path, call: Paw) -> None:
    program, cases = folder / "evil.paw", folder / "cases.jsonl"
    store.add(program, "evil", profile=tiny.profile("llama"))
    kept_cases.add("evil", [Case(f"one{EVIL}", LABELS[0])])
    job = jobs.start(["inspect", f"none{EVIL}.paw"])
    while jobs.read(job.id).state == "running":
        time.sleep(0.05)
    for words in (
        ["test", program, cases],
        ["compare", program, folder / "other.paw", cases],
        ["lint", "-f", folder / "specs.jsonl"],
        ["case", "ls", "evil"],
        ["fix", "evil", f"one{EVIL}", LABELS[1]],
        ["jobs"],
        ["jobs", "show", job.id],
    ):
        done = call(*words)
        seen = done.stdout.decode() + done.stderr
        assert "\\u001b]0;title" in seen or "\\x1b]0;title" in seen, (words, seen)
        assert not OBEYED & {*seen}, (words, seen)
