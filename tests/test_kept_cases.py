"""Cases kept with a program: none is lost, and they go where the program goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import make_program

from paw_mlx import Labels, cases, formats, kept_cases, store
from paw_mlx.cases import Case
from paw_mlx.convert.program import convert
from paw_mlx.errors import FormatError, NotFound, OptionError, PawError

ROOT = Path(__file__).parents[1]
ONE, TWO, THREE = Case("a", "yes"), Case("b", "no"), Case("c", "yes", group="q", grade=2.0)
CARRIED = [case.record() for case in (ONE, TWO)]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program's file, stored as `triage`."""
    path = make_program(tmp_path / "one.paw")
    store.add(path, "triage")
    return path


def carrying(path: Path, carried: object, seed: int = 1) -> Path:
    """Make a program's file whose meta.json has these cases."""
    made = formats.load(make_program(path, seed))
    formats.save(replace(made, meta={**made.meta, "cases": carried}), path, dtype=None)
    return path


def move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on with a store that is empty, as another machine's is."""
    monkeypatch.setenv("PAW_MLX_HOME", str(tmp_path / "elsewhere"))


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def run(code: str) -> list[str]:
    """Run Python in a process of its own, to its end; return the words that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def refused(kind: type[PawError], message: str, given: Sequence[Case]) -> None:
    """Assert that nothing is kept of these."""
    file = store.cases_file("triage")
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(kind) as caught:
        kept_cases.add("triage", given)
    assert message in str(caught.value)
    assert caught.value.hints
    assert (file.read_bytes() if file.exists() else None) == before


# --- kept ----------------------------------------------------------------------------------


def test_an_input_has_one_case_and_a_number(program: Path) -> None:
    assert kept_cases.read("triage") == []
    assert kept_cases.add("triage", [ONE, TWO]) == (2, 0, 0, [1, 2], [])
    changed = Case("a", "no")
    again = kept_cases.add("triage", [THREE, changed, Case("b", " no\n")])
    assert again == (1, 1, 1, [3, 1, 2], [ONE])
    assert kept_cases.read("triage") == [changed, TWO, THREE]
    assert kept_cases.remove("triage", [2, 1, 2]) == [changed, TWO]
    assert kept_cases.read("triage") == [THREE]
    assert kept_cases.add("triage", [replace(THREE, grade=1.0)]).replaced == 1
    kept_cases.remove("triage", [1])
    assert kept_cases.read("triage") == []
    assert not store.cases_file("triage").exists()


def test_all_versions_share_them(program: Path, tmp_path: Path) -> None:
    kept_cases.add("triage", [ONE])
    store.add(make_program(tmp_path / "two.paw", seed=1), "triage")
    kept_cases.add("triage@v1", [TWO])
    for reference in ("triage", "triage@v1", "triage@v2", str(store.find("triage@v2"))):
        assert kept_cases.read(reference) == [ONE, TWO]
    store.rollback("triage")
    assert kept_cases.read("triage") == [ONE, TWO]
    assert [entry.num_cases for entry in store.entries()] == [2, 2]


def test_they_go_with_the_last_version(program: Path, tmp_path: Path) -> None:
    store.add(make_program(tmp_path / "two.paw", seed=1), "triage")
    kept_cases.add("triage", [ONE, TWO])
    size = store.cases_file("triage").stat().st_size
    assert store.remove("triage@v2").num_cases == 0
    assert kept_cases.read("triage") == [ONE, TWO]
    assert store.remove("triage@v1") == (program.stat().st_size + size, 2)
    store.add(program, "triage")
    assert kept_cases.read("triage") == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([ONE, TWO, Case("a", "no")], "row 3 disagrees with row 1"),
        ([replace(ONE, line=4), TWO, replace(ONE, line=9)], "line 9 repeats line 4"),
        ([ONE, Case("b", "\ud83d")], "row 2: half a character"),
    ],
)
def test_what_contradicts_itself_is_refused_as_a_whole(
    program: Path, given: list[Case], message: str
) -> None:
    file = store.cases_file("triage")
    kept_cases.add("triage", [THREE])
    before = file.read_bytes()
    with pytest.raises(OptionError, match=message):
        kept_cases.add("triage", given)
    assert file.read_bytes() == before


def test_outputs_are_of_the_programs_type(program: Path) -> None:
    typed = replace(formats.load(program), output=Labels(("yes", "no")))
    store.add(typed, "triage", dtype=None)
    refused(OptionError, "row 2 ('maybe')", [ONE, Case("b", "maybe")])
    kept_cases.add("triage", [ONE, Case("b", "no\n")])
    store.rollback("triage")  # to a version of any text
    assert kept_cases.add("triage", [Case("c", "maybe")]).new == 1


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("triag", NotFound, "no program 'triag'"),
        ("triage@v2", NotFound, "no version v2"),
        ("./one.paw", OptionError, "cases are kept with those alone"),
    ],
)
def test_only_a_stored_program_keeps_any(
    program: Path, name: str, kind: type[PawError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        kept_cases.add(name, [ONE])
    with pytest.raises(kind, match=message):
        kept_cases.remove(name, [1])


def test_a_number_that_is_no_cases_removes_nothing(program: Path) -> None:
    kept_cases.add("triage", [ONE, TWO])
    with pytest.raises(OptionError, match="triage has 2 cases, and no case 0, 3"):
        kept_cases.remove("triage", [0, 1, 3])
    assert kept_cases.read("triage") == [ONE, TWO]


# --- not lost ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        b'{"input": "c", "outp',
        b'{"input": "c"}',
        b'{"input": "c", "output": 3}',
        b'{"input": "c", "output": "\\ud83d"}',
        b"[]",
        b"\xff\xfe",
        b"\0",
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_named_with_its_line_and_left_as_it_is(
    program: Path, tmp_path: Path, damage: bytes
) -> None:
    kept_cases.add("triage", [ONE, TWO])
    file = store.cases_file("triage")
    one, two = file.read_bytes().splitlines()
    file.write_bytes(b"\xef\xbb\xbf" + one + b"\r\n\n" + damage + b"\n" + two + b"\n")
    before, other = file.read_bytes(), carrying(tmp_path / "other.paw", CARRIED)
    for act in (
        lambda: kept_cases.read("triage"),
        lambda: kept_cases.add("triage", [THREE]),
        lambda: kept_cases.remove("triage", [1]),
        lambda: store.add(other, "triage"),
        lambda: convert("triage", tmp_path / "out.paw"),
    ):
        with pytest.raises(FormatError) as caught:
            act()
        assert str(caught.value).startswith(f"{file}, line 3")
        assert caught.value.hints
    assert file.read_bytes() == before
    assert [entry.version for entry in store.entries()] == [1]
    assert not (tmp_path / "out.paw").exists()
    assert store.remove("triage").num_cases == 3


def test_more_than_are_read_are_never_written(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_cases.add("triage", [ONE])
    monkeypatch.setattr(cases, "MAX_KEPT_BYTES", 100)
    refused(OptionError, "take 1,061 bytes", [Case("b", "no" * 500)])
    long = carrying(tmp_path / "other.paw", [Case("b", "no" * 500).record()])
    with pytest.raises(OptionError, match="at most 100"):
        store.add(long, "triage")
    assert kept_cases.read("triage") == [ONE]
    assert [entry.version for entry in store.entries()] == [1]
    store.cases_file("triage").write_bytes(b" " * 101)
    with pytest.raises(FormatError, match="101 bytes"):
        kept_cases.read("triage")


ADD = """
import os
from paw_mlx import formats, kept_cases
from paw_mlx.cases import Case

for who in range(20):
    if not os.fork():
        for number in range(5):
            kept_cases.add("triage", [Case(f"{who}-{number}", "yes"), Case("all", str(who))])
        os._exit(0)
for _ in range(20):
    assert os.wait()[1] == 0
"""


def test_twenty_at_once_lose_none(program: Path) -> None:
    run(ADD)
    found = {case.input for case in kept_cases.read("triage")}
    assert found == {f"{who}-{number}" for who in range(20) for number in range(5)} | {"all"}
    assert len(kept_cases.read("triage")) == 101


# Every child dies before one more line of what writes than the last, until one survives.
DYING = """
import os, signal, sys
from paw_mlx import formats, kept_cases
from paw_mlx.cases import Case

def dying(left):
    def trace(frame, event, _):
        nonlocal left
        code = frame.f_code
        if code.co_name != "write_bytes" and "paw_mlx" not in code.co_filename:
            return None
        left -= event == "line"
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def begin(path, replacing=kept_cases.replacing):
        sys.settrace(trace)
        return replacing(path)

    kept_cases.replacing = begin

kept_cases.add("triage", [Case("a", "yes")])  # which sweeps the folder, once in a process
step, status = 0, 1
while status:
    child = os.fork()
    if not child:
        dying(step)
        kept_cases.add("triage", [Case("b", "no")])
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(len(kept_cases.read("triage")))
    if status and len(kept_cases.read("triage")) == 2:
        kept_cases.remove("triage", [2])
    step += 1
"""


def test_killed_before_any_line_it_leaves_the_old_or_the_new(program: Path) -> None:
    found = run(DYING)
    assert found == sorted(found)  # old, old, … new, new
    assert {*found} == {"1", "2"}
    assert found.count("1") >= 4
    assert kept_cases.read("triage") == [ONE, TWO]


# --- elsewhere -----------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["out.paw", "out"])
def test_they_travel_with_the_program(
    program: Path, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_cases.add("triage", [ONE, TWO, THREE])
    made = convert("triage@v1", tmp_path / to, to=None if "." in to else "dir")
    assert made.receipt.exact
    assert made.num_cases == 3
    names = members(tmp_path / to) if "." in to else {p.name for p in (tmp_path / to).iterdir()}
    assert {*names} == {"adapter.gguf", "prompt_template.txt", "meta.json"}
    before, after = formats.load(program), formats.load(tmp_path / to)
    assert (after.id, after.digest(), after.template) == (
        before.id,
        before.digest(),
        before.template,
    )
    assert kept_cases.read(str(tmp_path / to)) == [ONE, TWO, THREE]
    assert store.add(tmp_path / to, "triage") == 1  # the program that is there already
    move(tmp_path, monkeypatch)
    store.add(tmp_path / to, "mine")
    assert kept_cases.read("mine") == [ONE, TWO, THREE]


def test_in_the_store_the_file_of_cases_alone_has_them(tmp_path: Path) -> None:
    path = carrying(tmp_path / "other.paw", CARRIED)
    store.add(path, "triage")
    stored, given = members(store.find("triage")), members(path)
    meta = [json.loads(one.pop("meta.json")) for one in (stored, given)]
    assert stored == given
    assert meta[0] == {key: value for key, value in meta[1].items() if key != "cases"}
    kept_cases.remove("triage", [1])
    program = formats.load(store.find("triage"))
    store.add(replace(program, output=Labels(("yes", "no"))), "triage", dtype=None)
    assert kept_cases.read("triage") == [TWO]  # a new version brings back nothing
    store.add(store.find("triage"), "copy")
    assert kept_cases.read("copy") == [TWO]


def test_a_file_fills_in_the_inputs_that_have_no_case(program: Path, tmp_path: Path) -> None:
    mine = Case("b", "yes")
    kept_cases.add("triage", [mine])
    assert store.add(carrying(tmp_path / "other.paw", CARRIED), "triage") == 2
    assert kept_cases.read("triage") == [mine, ONE]


def test_what_is_no_stored_program_is_converted_as_it_is(tmp_path: Path) -> None:
    path = carrying(tmp_path / "other.paw", 5)
    made = convert(path, tmp_path / "out.paw")
    assert formats.load(tmp_path / "out.paw").meta["cases"] == 5
    assert made.num_cases == 0
    convert(path, tmp_path / "bare.paw", with_cases=False)
    assert "cases" not in formats.load(tmp_path / "bare.paw").meta


@pytest.mark.parametrize(
    ("carried", "message"),
    [
        (5, "is 5, and no list"),
        ({"input": "a"}, "and no list"),
        ([CARRIED[0], {"input": "a"}], ", case 2: a case needs the strings"),
        ([CARRIED[0] | {"grade": -1}], ", case 1: \"grade\" is '-1'"),
    ],
)
def test_what_a_file_carries_is_checked_before_it_is_stored(
    program: Path, tmp_path: Path, carried: object, message: str
) -> None:
    path = carrying(tmp_path / "other.paw", carried)
    with pytest.raises(FormatError) as caught:
        store.add(path, "triage")
    assert str(caught.value).startswith(f'{path}: "cases" of its meta.json')
    assert message in str(caught.value)
    assert "--no-cases" in caught.value.hints[0]
    assert store.current("triage") == 1


def test_more_than_a_program_carries_stay_where_they_are(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_cases.add("triage", [Case(str(number), "x" * (1 << 20)) for number in range(17)])
    before = make_program(tmp_path / "out.paw", seed=2).read_bytes()
    with pytest.raises(OptionError, match=r"with its 17 cases .* \(limit 16,777,216\)") as caught:
        convert("triage", tmp_path / "out.paw")
    assert "--no-cases" in caught.value.hints[0]
    assert (tmp_path / "out.paw").read_bytes() == before
    convert("triage", tmp_path / "out.paw", with_cases=False)
    kept_cases.remove("triage", [1, 2])
    assert convert("triage", tmp_path / "out.paw").num_cases == 15
    move(tmp_path, monkeypatch)
    store.add(tmp_path / "out.paw", "mine")
    assert len(kept_cases.read("mine")) == 15


def test_no_program_is_called_as_the_file_of_cases_is(program: Path) -> None:
    for name in ("triage/cases.jsonl", "cases.jsonl"):
        with pytest.raises(OptionError, match="cannot name a program"):
            store.add(program, name)
        assert not store.is_reference(name)


# --- files ---------------------------------------------------------------------------------


def test_rows_are_read_by_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(c.record())}\n" for c in (ONE, THREE)))
    assert kept_cases.read_file(tmp_path / "a.jsonl") == [ONE, THREE]
    (tmp_path / "a.csv").write_text('id;output;input\n1;no;"b\nc; d"\n\n2;yes;a\n')
    assert kept_cases.read_file(tmp_path / "a.csv") == [Case("b\nc; d", "no"), ONE]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input,output\na,yes\nb,\n", ", row 2 has no output"),
        ("input,output\na,yes\nb\n", ", row 2 has no output"),
        ("input,output\na,yes,c\n", ", row 1: 3 fields, and the header has 2"),
        ("input,answer\na,yes\n", "no column 'output': it has input, answer"),
        ("question,output\na,yes\n", "there is no field 'input': the input has question, output"),
        ("input,output\n", " holds no cases"),
        ("", " holds no cases"),
    ],
)
def test_a_csv_row_that_is_no_case_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises((FormatError, OptionError)) as caught:
        kept_cases.read_file(tmp_path / "a.csv")
    assert message in str(caught.value)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        kept_cases.read_file(tmp_path / "missing.csv")
    with pytest.raises(OptionError, match="neither text, JSON lines, csv"):
        kept_cases.read_file(tmp_path / "a.xlsx")
