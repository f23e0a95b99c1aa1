"""`paw-mlx case` and `fix`, and what other commands do with the cases that are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from shell import Done, Paw, paw

from paw_mlx import Interpreter, Labels, formats, kept_cases, load, store
from paw_mlx.cases import Case


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a program of two labels, and what it says of "disk"."""
    folder = tmp_path_factory.mktemp("cases")
    tiny.write_base(folder / "base", "llama")
    profile = tiny.profile("llama")
    program = tiny.program("llama").typed(Labels(("down", "full")))
    formats.save(program, folder / "log.paw", dtype="f16", profile=profile)
    with Interpreter.load(str(folder / "base")) as interpreter:
        (folder / "said").write_text(interpreter.run(load(folder / "log.paw"), "disk").text)
    return folder


@pytest.fixture
def said(folder: Path) -> str:
    store.add(folder / "log.paw", "log")
    return (folder / "said").read_text()


@pytest.fixture
def base(folder: Path) -> list[object]:
    return ["--interpreter", folder / "base"]


def told(done: Done) -> str:
    """Return what a command printed; it has done its work."""
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def refused(done: Done, message: str, hint: str = "") -> None:
    assert done.returncode == 1
    assert done.stdout == b""
    assert f"error: {message}" in done.stderr
    assert hint in done.stderr


def test_cases_are_added_listed_and_removed(call: Paw, said: str) -> None:
    assert told(call("case", "add", "log", "disk", "full")) == "kept as case 1 of log\n"
    assert told(call("case", "add", "log", "a\nb", "down")) == "kept as case 2 of log\n"
    assert told(call("case", "add", "log", "disk", "full")) == "kept already, as case 1 of log\n"
    assert told(call("case", "add", "log", "disk", "down")) == (
        'case 1 of log has another output now, and had "full"\n'
    )
    assert told(call("case", "ls", "log")) == (
        "   EXPECTED  INPUT\n1  down      disk\n2  down      a\\nb\n"
    )
    assert json.loads(call("case", "ls", "log", "--json").stdout) == {
        "program": "log",
        "cases": [
            {"number": 1, "input": "disk", "output": "down"},
            {"number": 2, "input": "a\nb", "output": "down"},
        ],
    }
    assert told(call("case", "rm", "log", "1")) == (
        'removed case 1 of log: {"input": "disk", "output": "down"}\n'
    )
    told(call("case", "add", "log", "c", "down"))
    done = call("case", "rm", "log", "1-2", "--json")
    assert [case["input"] for case in json.loads(done.stdout)["removed"]] == ["a\nb", "c"]
    assert call("case", "ls", "log").stderr.startswith("no cases are kept with log")


def test_what_is_no_case_is_refused(call: Paw, said: str, folder: Path) -> None:
    done = call("case", "add", "log", "disk", "broken")
    refused(done, "1 of 1 cases have an output that is not one of the labels down, full: row 1")
    refused(call("case", "add", folder / "log.paw", "a", "b"), "", "pull FILE --as NAME")
    refused(call("case", "rm", "log", "2"), "log has 0 cases, and no case 2", "case ls log")
    for number in ("0", "3-2", "x", "1-9999999"):
        assert call("case", "rm", "log", number).returncode == 2
    assert kept_cases.read("log") == []


def test_a_terminal_obeys_nothing_of_a_case(call: Paw, said: str) -> None:
    kept_cases.add("log", [Case("\x1b[31mred\r" + "x" * 99, "down")])
    shown = told(call("case", "ls", "log"))
    assert "\x1b" not in shown
    assert "\\x1b[31mred\\r" in shown
    assert max(map(len, shown.splitlines())) < 90
    assert "\x1b" not in told(call("case", "rm", "log", "1"))


def test_an_input_may_come_from_a_pipe(said: str) -> None:
    done = paw("case", "add", "log", "-", "full", stdin="spring\npicnic é\n".encode())
    assert told(done) == "kept as case 1 of log\n"
    assert kept_cases.read("log") == [Case("spring\npicnic é", "full")]


def test_files_are_imported_as_a_whole(call: Paw, said: str, tmp_path: Path) -> None:
    told(call("case", "add", "log", "disk", "full"))
    table, lines = tmp_path / "cases.csv", tmp_path / "cases.jsonl"
    table.write_text("input,output\ndisk,full\nserver,down\nall,down\n")
    assert told(call("case", "import", "log", table)) == (
        "3 cases for log: 2 new, 1 kept already\n"
    )
    rows = [("disk", "down"), ("all", "down"), ("picnic", "full")]
    lines.write_text("".join(json.dumps({"input": i, "output": o}) + "\n" for i, o in rows))
    assert json.loads(call("case", "import", "log", lines, "--json").stdout) == {
        "program": "log", "new": 1, "same": 1, "replaced": 1,
    }  # fmt: skip
    before = kept_cases.read("log")
    assert [(case.input, case.output) for case in before] == [
        ("disk", "down"), ("server", "down"), ("all", "down"), ("picnic", "full"),
    ]  # fmt: skip
    table.write_text("input,output\nnew,full\ndisk,full\nnew,down\nnew,full\n")
    done = call("case", "import", "log", table)
    refused(
        done,
        "2 of these cases have the input of another: row 3 disagrees with row 1, row 4 repeats "
        "row 1",
        "nothing was kept",
    )
    table.write_text("input,output\nnew,full\nnewer,broken\n")
    refused(call("case", "import", "log", table), "1 of 2 cases", "Nothing was kept")
    assert kept_cases.read("log") == before


def test_fix_says_what_is_answered_and_keeps_what_is_right(
    call: Paw, said: str, base: list[object]
) -> None:
    right = ({"down", "full"} - {said}).pop()
    assert told(call("fix", "log", "disk", right, *base)) == (
        f'got       "{said}"\nexpected  "{right}"\nkept as case 1 of log\n'
    )
    assert told(call("fix", "log", "disk", said, *base)) == (
        f'got       "{said}", which is right already\n'
        f'case 1 of log has another output now, and had "{right}"\n'
    )
    assert json.loads(call("fix", "log", "disk", said, *base, "--json").stdout) == {
        "program": "log", "number": 1, "status": "same", "output": said, "correct": True,
    }  # fmt: skip
    assert kept_cases.read("log") == [Case("disk", said)]


def test_fix_keeps_the_case_where_the_program_cannot_run(
    call: Paw, said: str, base: list[object], folder: Path
) -> None:
    done = call("fix", "log", "disk " * 400, "down", *base)
    refused(done, "14 prefix + 405 input", "The case is safe all the same: kept as case 1 of log.")
    done = call("fix", "log", "disk", "down", "--interpreter", folder / "nowhere", "--json")
    assert done.returncode == 1
    assert "kept as case 2 of log" in json.loads(done.stdout)["error"]["hints"][-1]
    assert len(kept_cases.read("log")) == 2
    refused(call("fix", "log", "all", "broken", *base), "1 of 1 cases")
    assert len(kept_cases.read("log")) == 2


def test_test_runs_what_is_kept(call: Paw, said: str, base: list[object], tmp_path: Path) -> None:
    refused(call("test", "log", *base), "no cases are kept with log", "paw-mlx case add")
    kept_cases.add("log", [Case("disk", said)])
    for reference in ("log", "log@v1"):
        done = call("test", reference, *base)
        assert "accuracy 100.0% (1 of 1)" in told(done)
    out = tmp_path / "out.paw"
    done = call("convert", "log", out, "--interpreter", base[1])
    assert told(done).endswith(", with 1 case\n")
    assert json.loads(call("test", out, *base, "--json").stdout)["cases"] == 1


def test_they_are_counted_wherever_a_program_is_shown(
    call: Paw, said: str, folder: Path, tmp_path: Path
) -> None:
    assert "CASES" not in told(call("ls"))
    assert "cases" not in told(call("inspect", "log"))
    kept_cases.add("log", [Case("disk", "down"), Case("all", "down")])
    head, row = told(call("ls")).splitlines()
    assert head.split()[-1] == "CASES"
    assert row.split()[-1] == "2"
    assert "\ncases        2\n" in told(call("inspect", "log"))
    assert json.loads(call("inspect", "log", "--json").stdout)["num_cases"] == 2
    out, bare = tmp_path / "out.paw", tmp_path / "bare.paw"
    options = ["--interpreter", folder / "base"]
    told(call("convert", "log", out, *options))
    assert "with" not in told(call("convert", "log", bare, *options, "--no-cases"))
    assert json.loads(call("inspect", out, "--json").stdout)["num_cases"] == 2
    assert json.loads(call("inspect", bare, "--json").stdout)["num_cases"] == 0
    assert call("pull", out, "--as", "other").stderr == "stored other@v1, with 2 cases\n"
    assert call("pull", bare, "--as", "third").stderr == "stored third@v1\n"


def test_calibrate_takes_them_along(
    call: Paw, said: str, base: list[object], tmp_path: Path
) -> None:
    kept_cases.add("log", [Case("disk", said), Case("all", "down")])
    file, out = tmp_path / "cases.jsonl", tmp_path / "out.paw"
    file.write_text('{"input": "disk", "output": "down"}\n')
    assert call("calibrate", "log", file, *base, "-o", out).returncode == 1  # without a threshold
    assert kept_cases.read(str(out)) == kept_cases.read("log")
    call("calibrate", "log", file, *base)
    assert len(kept_cases.read("log")) == 2


def test_rm_says_how_many_go(call: Paw, said: str) -> None:
    kept_cases.add("log", [Case("disk", "down"), Case("all", "down")])
    refused(call("rm", "log"), "not removing log and the 2 cases kept with it", "--yes")
    assert "removed log@v1 and the 2 cases kept with it, " in told(call("rm", "log@v1", "--yes"))
