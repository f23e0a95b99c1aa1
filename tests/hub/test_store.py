"""The store: whole programs only, whoever writes at the same time or dies in between."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner

from paw_mlx import formats, settings, store
from paw_mlx.adapter import Adapter, Lora, Matrix
from paw_mlx.cli import cli
from paw_mlx.errors import DiskError, FormatError, NotFound, OptionError

Start = Callable[..., "subprocess.Popen[str]"]
ADD = """
import sys
from pathlib import Path
from paw_mlx import store
print(store.add(Path(sys.argv[1]), "triage"))
"""


def files() -> list[str]:
    """Every file of the store but its lock."""
    root = settings.data_dir() / "programs"
    paths = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return sorted(path.relative_to(root).as_posix() for path in paths)


def test_versions_count_up_and_the_newest_is_found(program: Path, other: Path) -> None:
    assert [store.add(program, "triage"), store.add(other, "triage")] == [1, 2]
    assert store.find("triage").read_bytes() == other.read_bytes()
    assert store.find("triage@v1").read_bytes() == program.read_bytes()
    with pytest.raises(NotFound, match="no version v3 here: there is v2, v1"):
        store.find("triage@v3")


def test_the_same_bytes_get_no_new_version(program: Path, other: Path) -> None:
    assert store.add(program, "triage") == store.add(program, "triage") == 1
    store.add(other, "triage")
    assert store.add(program, "triage") == 3
    assert len(files()) == 3


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Matrix]:
    """The matrices that were looked through for NaN, one by one."""
    found, is_finite = [], Matrix.is_finite

    def counted(matrix: Matrix) -> bool:
        found.append(matrix)
        return is_finite(matrix)

    monkeypatch.setattr(Matrix, "is_finite", counted)
    return found


def test_a_program_made_here_is_checked_once(program: Path, checked: list[Matrix]) -> None:
    made = formats.load(program)
    assert len(checked) == 2  # A and B of its one site
    assert store.add(made, "triage", dtype=None) == 1
    assert len(checked) == 2
    assert store.find("triage").read_bytes() == program.read_bytes()
    assert store.add(made, "triage", dtype=None) == 1
    assert store.add(made, "triage", dtype="f16") == 2
    assert formats.load(store.find("triage")).adapter.dtypes == ("f16",)


def test_a_program_from_outside_is_checked_again_as_it_was_copied(
    program: Path, checked: list[Matrix]
) -> None:
    assert store.add(program, "triage") == 1
    assert len(checked) == 4


def test_what_changes_while_it_is_copied_is_not_stored(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:-30])

    monkeypatch.setattr(shutil, "copyfile", cut)
    with pytest.raises(FormatError, match="cut short"):
        store.add(program, "triage")
    assert files() == []


@pytest.mark.parametrize("change", ["add", "remove", "rename", "rollback"])
def test_whatever_changes_the_store_waits_for_whoever_writes(
    program: Path, other: Path, change: str
) -> None:
    arguments = {"add": (program, "triage"), "rename": ("triage", "mail")}
    for path in (program, other):
        store.add(path, "triage")
    before = store.entries()
    writer = Thread(target=getattr(store, change), args=arguments.get(change, ("triage",)))
    with store.lock():
        writer.start()
        writer.join(0.1)
        assert writer.is_alive()
        assert store.entries() == before
    writer.join(10)
    assert store.entries() != before


def test_a_program_that_is_not_finite_is_not_stored(program: Path) -> None:
    made = formats.load(program)
    site, lora = next(iter(made.adapter.sites.items()))
    broken = replace(made, adapter=Adapter({site: Lora(lora.A, lora.B, float("nan"))}))
    with pytest.raises(FormatError, match="1 sites hold NaN"):
        store.add(broken, "triage")
    assert files() == []


def test_a_program_folder_is_stored_as_a_file(program: Path, tmp_path: Path) -> None:
    formats.save(formats.load(program), f"{tmp_path}/folder/", dtype=None)
    store.add(tmp_path / "folder", "me/triage")
    stored = formats.load(store.find("me/triage"))
    assert stored.template == formats.load(program).template
    assert files() == ["me/triage/v1.paw"]


def test_rolling_back_keeps_every_version_and_the_next_one_is_current(
    program: Path, other: Path
) -> None:
    for path in (program, other, program):
        store.add(path, "triage")
    assert [store.current("triage"), store.rollback("triage"), store.rollback("triage")] == [
        3,
        2,
        1,
    ]
    assert store.find("triage") == store.find("triage@v1")
    assert [(e.version, e.current) for e in store.entries()] == [
        (3, False),
        (2, False),
        (1, True),
    ]
    assert store.rollback("triage", to=2) == 2
    assert store.find("triage").read_bytes() == other.read_bytes()
    assert store.find("triage@v3").read_bytes() == program.read_bytes()
    assert store.add(other, "triage") == 4
    assert store.find("triage") == store.find("triage@v4")
    assert files() == [f"triage/v{n}.paw" for n in (1, 2, 3, 4)]


def test_adding_what_the_newest_holds_makes_it_current_again(program: Path, other: Path) -> None:
    for path in (program, other):
        store.add(path, "triage")
    store.rollback("triage")
    assert store.add(other, "triage") == 2
    assert store.current("triage") == 2


def test_a_version_added_by_its_number_leaves_the_current_one(program: Path, other: Path) -> None:
    """`run me/triage@v7` may fetch it from a service, and undoes no rollback."""
    for path in (program, other):
        store.add(path, "triage")
    store.rollback("triage")
    assert store.add(other, "triage", version=7) == 7
    assert store.current("triage") == 1


def test_removing_the_current_version_falls_back_to_the_newest(program: Path, other: Path) -> None:
    for path in (program, other, program):
        store.add(path, "triage")
    store.rollback("triage", to=2)
    store.remove("triage@v2")
    assert store.current("triage") == 3
    assert store.add(other, "triage", version=2) == 2
    assert store.current("triage") == 3
    store.rollback("triage")
    store.remove("triage")
    assert files() == []
    assert not (settings.data_dir() / "programs" / "triage").exists()


@pytest.mark.parametrize("damage", [b"", b"v9\n", b"v1", b"v0\n", b"v2\nv1\n", b"\xff" * 5000])
def test_a_damaged_mark_of_the_current_version_hides_nothing(
    program: Path, other: Path, damage: bytes
) -> None:
    for path in (program, other):
        store.add(path, "triage")
    store.rollback("triage")
    (mark,) = (path for path in files() if "paw" not in path)
    (settings.data_dir() / "programs" / mark).write_bytes(damage)
    assert store.current("triage") == 2
    assert len(store.entries()) == 2
    assert store.rollback("triage") == 1
    assert store.current("triage") == 1
    store.remove("triage")
    assert files() == []


def test_where_there_is_nothing_to_step_back_to_the_versions_are_named(
    program: Path, other: Path
) -> None:
    with pytest.raises(NotFound, match="no program 'triage'"):
        store.rollback("triage")
    assert not (settings.data_dir() / "programs").exists()
    for path in (program, other):
        store.add(path, "triage")
    store.rollback("triage")
    with pytest.raises(NotFound, match="no version before v1 here: there is v2, v1"):
        store.rollback("triage")
    with pytest.raises(NotFound, match="no version v5 here: there is v2, v1"):
        store.rollback("triage", to=5)
    assert store.current("triage") == 1


def test_two_processes_rolling_back_take_one_step_each(
    program: Path, other: Path, start: Start
) -> None:
    for path in (program, other, program):
        store.add(path, "triage")
    code = "from paw_mlx import store; print(store.rollback('triage'))"
    running = [start(code) for _ in range(2)]
    assert sorted(process.communicate()[0] for process in running) == ["1\n", "2\n"]
    assert store.current("triage") == 1


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_damaged_program_is_refused_and_the_store_unchanged(
    program: Path, other: Path, keep: float
) -> None:
    store.add(program, "triage")
    data = other.read_bytes()
    other.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(FormatError):
        store.add(other, "triage")
    assert files() == ["triage/v1.paw"]
    assert store.find("triage").read_bytes() == program.read_bytes()


def test_two_processes_adding_one_program_store_it_once(program: Path, start: Start) -> None:
    running = [start(ADD, program) for _ in range(3)]
    assert [process.communicate()[0] for process in running] == ["1\n"] * 3
    assert files() == ["triage/v1.paw"]
    assert store.find("triage").read_bytes() == program.read_bytes()


def test_two_processes_adding_two_programs_store_both(
    program: Path, other: Path, start: Start
) -> None:
    running = [start(ADD, path) for path in (program, other)]
    versions = sorted(process.communicate()[0] for process in running)
    assert versions == ["1\n", "2\n"]
    stored = {store.find(f"triage@v{n}").read_bytes() for n in (1, 2)}
    assert stored == {program.read_bytes(), other.read_bytes()}


# Write half of the program where it is staged, say so, and wait to be stopped.
HANG = """
import shutil, sys, time
from pathlib import Path

def half(source, target):
    data = Path(source).read_bytes()
    Path(target).write_bytes(data[: len(data) // 2])
    print("half", flush=True)
    while True:
        time.sleep(0.01)  # one long sleep would not hear of a signal that came just before it

shutil.copyfile = half
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_stopped_midway_leaves_no_half_program(
    program: Path, number: signal.Signals, start: Start
) -> None:
    process = start(HANG + ADD, program)
    assert process.stdout
    assert process.stdout.readline() == "half\n"
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    with pytest.raises(NotFound):
        store.find("triage")
    assert store.entries() == []
    assert store.add(program, "triage") == 1
    assert files() == ["triage/v1.paw"]


BAD_NAMES = """
. .. ../up a/../b /etc/passwd a/b/c ~ A .hidden a/ a\\b program.paw v1.paw/x a/v1.paw a@v1
"""


@pytest.mark.parametrize("name", ["", "a b", "a\x00b", "a\n", "x" * 101, *BAD_NAMES.split()])
def test_a_name_that_is_no_name_is_refused(program: Path, name: str) -> None:
    with pytest.raises(OptionError):
        store.add(program, name)
    assert files() == []


@pytest.mark.parametrize("reference", ["a@", "a@v", "a@v0", "a@1", "a@v1@v2", "../a@v1", "@v1"])
def test_a_malformed_reference_is_refused(reference: str) -> None:
    assert not store.is_reference(reference)
    with pytest.raises(OptionError):
        store.find(reference)


def test_an_unknown_name_is_met_with_near_ones_and_the_place(program: Path) -> None:
    store.add(program, "email-triage")
    with pytest.raises(NotFound) as caught:
        store.find("email-triag")
    assert str(settings.data_dir()) in str(caught.value)
    assert "email-triage" in caught.value.hints[0]


def test_removing_frees_what_it_says(program: Path, other: Path) -> None:
    for path in (program, other):
        store.add(path, "me/triage")
    sizes = [program.stat().st_size, other.stat().st_size]
    assert [(e.name, e.version, e.bytes) for e in store.entries()] == [
        ("me/triage", 2, sizes[1]),
        ("me/triage", 1, sizes[0]),
    ]
    assert store.remove("me/triage@v2").bytes == sizes[1]
    assert store.find("me/triage") == store.find("me/triage@v1")
    assert store.remove("me/triage").bytes == sizes[0]
    assert files() == []
    assert not (settings.data_dir() / "programs" / "me").exists()
    with pytest.raises(NotFound):
        store.remove("me/triage")


def test_a_renamed_program_keeps_its_versions_and_its_cases(program: Path, other: Path) -> None:
    for path in (program, other, program):
        store.add(path, "mail")
    store.rollback("mail", 2)
    store.add(other, "mail/inner")
    (settings.data_dir() / "programs/mail/cases.jsonl").write_text(
        '{"input": "a", "output": "b"}\n'
    )
    store.rename("mail", "me/post")
    assert store.current("me/post") == 2
    assert store.find("me/post@v3").read_bytes() == program.read_bytes()
    assert [entry.num_cases for entry in store.entries() if entry.name == "me/post"] == [1, 1, 1]
    assert {entry.name for entry in store.entries()} == {"mail/inner", "me/post"}
    with pytest.raises(OptionError, match="mail/inner is the name of another program already"):
        store.rename("me/post", "mail/inner")
    with pytest.raises(NotFound):
        store.rename("mail", "nobody")
    store.rename("me/post", "mail")
    assert files() == sorted(
        ["mail/.current", "mail/cases.jsonl", "mail/inner/v1.paw"]
        + [f"mail/v{number}.paw" for number in (1, 2, 3)]
    )


def test_a_name_may_be_a_user_and_a_program(program: Path, other: Path) -> None:
    store.add(program, "me")
    store.add(other, "me/triage")
    store.remove("me")
    assert store.find("me/triage").read_bytes() == other.read_bytes()


def test_a_folder_that_cannot_be_written_is_one_sentence(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PAW_MLX_HOME", str(tmp_path / "file"))
    with pytest.raises(DiskError, match="cannot write"):
        store.add(program, "triage")


def run(arguments: Sequence[str]) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_pull_ls_and_rm_tell_one_story(program: Path) -> None:
    code, out, _ = run(["pull", str(program), "--as", "triage"])
    assert (code, out) == (0, f"{store.find('triage')}\n")
    code, out, _ = run(["ls"])
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["PROGRAM", "VERSION"],
        ["triage", "v1"],
    ]
    code, out, err = run(["rm", "triage"])
    assert (code, out) == (1, "")
    assert "--yes" in err
    code, out, _ = run(["rm", "triage", "nothing", "--yes", "--json"])
    assert code == 1
    assert json.loads(out)["error"]["code"] == "NotFound"
    assert store.find("triage").exists()
    size = program.stat().st_size
    code, out, _ = run(["rm", "triage", "--yes", "--json"])
    assert json.loads(out) == {"removed": [{"name": "triage", "bytes": size, "num_cases": 0}]}
    code, out, err = run(["ls"])
    assert (code, out) == (0, "")
    assert "paw-mlx pull" in err
    code, out, err = run(["ls", "--json"])
    assert json.loads(out) == {"programs": [], "bases": [], "compilers": []}
    assert err == ""


def test_rollback_and_ls_tell_which_version_is_current(program: Path, other: Path) -> None:
    for path, name in [(program, "triage"), (other, "triage"), (other, "me/once")]:
        assert run(["pull", str(path), "--as", name])[0] == 0
    assert run(["rollback", "triage"])[1] == "triage is now v1 (v2 is kept: triage@v2)\n"
    assert [line[:16] for line in run(["ls"])[1].splitlines()] == [
        "PROGRAM  VERSION",
        "me/once       v1",
        "triage        v2",
        "triage      * v1",
    ]
    programs = json.loads(run(["ls", "--json"])[1])["programs"]
    assert [entry["current"] for entry in programs] == [True, False, True]
    assert run(["rollback", "triage"])[::2] == (
        1,
        "error: triage has no version before v1 here: there is v2, v1\n",
    )
    assert run(["rollback", "triage", "--to", "1"])[1] == "triage is v1 already\n"
    out = run(["rollback", "triage", "--to", "v2", "--json"])[1]
    assert json.loads(out) == {"program": "triage", "version": 2, "previous": 1}
    assert store.current("triage") == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["triage", "--to", "two"], 2, "'two'"),
        (["triage", "--to", "0"], 2, "'0'"),
        (["triage@v1"], 1, "hint: paw-mlx rollback triage --to v1"),
        (["../triage"], 1, "cannot name a program"),
    ],
)
def test_a_wrong_rollback_changes_nothing(
    program: Path, other: Path, words: list[str], code: int, message: str
) -> None:
    for path in (program, other):
        store.add(path, "triage")
    result = run(["rollback", *words])
    assert result[:2] == (code, "")
    assert message in result[2]
    assert store.current("triage") == 2


def test_pulling_a_program_without_a_name_says_how(program: Path) -> None:
    code, out, err = run(["pull", str(program)])
    assert (code, out) == (1, "")
    assert "--as NAME" in err
    code, out, err = run(["pull", str(program), "--as", "../up"])
    assert (code, out) == (1, "")
    assert files() == []
