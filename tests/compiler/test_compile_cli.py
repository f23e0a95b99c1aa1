"""`paw-mlx compile` as its user meets it."""

from __future__ import annotations

import gc
import json
import stat
import weakref
from pathlib import Path

import pytest
from chat_models import scripted_model
from click.testing import CliRunner, Result
from compiling_repos import PSEUDO_PROGRAM, SPEC, converted, interpreter

from paw_mlx import Labels, Program, Regex, Schema, formats, load, store
from paw_mlx.adapter import Matrix
from paw_mlx.cli import cli
from paw_mlx.output import TEXT

SPECS = {"alert": SPEC, "greet": "Write a greeting."}


@pytest.fixture
def pseudo(tmp_path: Path) -> Path:
    path = tmp_path / "pseudo.txt"
    path.write_text(PSEUDO_PROGRAM)
    return path


def run(*words: object, stdin: str | None = None) -> Result:
    """`paw-mlx compile` with the tiny Qwen3 compiler."""
    known = ["--compiler", converted("qwen3"), "--interpreter", interpreter("qwen3")]
    return CliRunner().invoke(cli, [str(w) for w in ["compile", *words, *known]], input=stdin)


def test_a_spec_becomes_a_file_and_its_costs_are_told(tmp_path, pseudo):
    out = tmp_path / "alert.paw"
    done = run(SPEC, "--pseudo-program", pseudo, "-o", out)
    assert (done.exit_code, done.stdout) == (0, f"{out}\n")
    labels, *costs = done.stderr.splitlines()
    assert labels == "labels from the spec: ALERT, QUIET"
    assert [line.split()[0] for line in costs] == ["phase", "encode", "map"]
    program = load(out)
    assert program.output == Labels(("ALERT", "QUIET"))
    assert (program.spec, program.pseudo_program) == (SPEC, PSEUDO_PROGRAM)
    assert program.adapter.dtypes == ("q4_0",)


def test_json_says_what_it_cost(tmp_path, pseudo):
    out = tmp_path / "alert.paw"
    done = run("-", "--pseudo-program", pseudo, "-o", out, "--json", stdin=f"{SPEC}\n")
    record = json.loads(done.stdout)
    assert done.stderr == ""
    assert record["path"] == str(out)
    assert record["bytes"] == out.stat().st_size
    assert record["program_id"] == load(out).id
    assert record["output"] == {"type": "labels", "labels": ["ALERT", "QUIET"]}
    assert set(record["phases"]) == {"pseudo_program", "encode", "map", "calibrate"}
    assert 0 < record["phases"]["encode"]["seconds"] <= record["seconds"]
    assert record["peak_bytes"] == max(p["peak_bytes"] for p in record["phases"].values())


def test_what_outputs_may_be_is_said_or_read_from_the_spec(tmp_path, pseudo):
    schema, labels = tmp_path / "row.json", tmp_path / "labels.txt"
    schema.write_text('{"type": "boolean"}')
    labels.write_text("\ufeffPage, and call\r\n\n QUIET \n", encoding="utf-8", newline="")
    for words, output in (
        (["--labels", "PAGE, LOG ,QUIET"], Labels(("PAGE", "LOG", "QUIET"))),
        (["--labels", f"@{labels}"], Labels(("Page, and call", "QUIET"))),
        (["--schema", schema], Schema.of({"type": "boolean"})),
        (["--regex", "[A-Z]+"], Regex("[A-Z]+")),
        (["--text"], TEXT),
    ):
        done = run(SPEC, "--pseudo-program", pseudo, "--name", "alert", *words)
        assert "labels from" not in done.stderr
        assert load(done.stdout.strip()).output == output
    specs = tmp_path / "specs.jsonl"
    rows = [{"spec": s, "name": n, "pseudo_program": PSEUDO_PROGRAM} for n, s in SPECS.items()]
    specs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("-f", specs)
    told = [line for line in done.stderr.splitlines() if line.startswith("labels from")]
    assert told == ["labels from alert: ALERT, QUIET"]
    assert [load(store.find(name)).output for name in SPECS] == [Labels(("ALERT", "QUIET")), TEXT]


def test_recompiling_under_a_name_keeps_what_was_there(pseudo):
    for number, spec in enumerate((SPEC, f"{SPEC} Twice."), 1):
        done = run(spec, "--pseudo-program", pseudo, "--name", "alert")
        assert f"stored alert@v{number}" in done.stderr
        assert done.stdout.strip() == str(store.find(f"alert@v{number}"))
    assert [load(store.find(f"alert{at}")).spec for at in ("", "@v1")] == [f"{SPEC} Twice.", SPEC]


def test_rows_of_a_jsonl_are_stored_by_name_and_a_bad_one_sinks_no_other(tmp_path):
    rows = [
        {"spec": SPEC, "name": "one", "pseudo_program": PSEUDO_PROGRAM},
        {"spec": SPEC, "name": "two", "pseudo_program": "Task: no markers"},
        {"spec": f"{SPEC}!", "name": "three", "pseudo_program": PSEUDO_PROGRAM},
    ]
    specs = tmp_path / "specs.jsonl"
    specs.write_text("\n".join(map(json.dumps, rows)))
    done = run("-f", specs)
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 2
    assert "two: the pseudo-program lacks [PSEUDO_PROGRAM]" in done.stderr
    assert "1 of 3 specs were not compiled" in done.stderr
    assert {entry.name for entry in store.entries()} == {"one", "three"}


def test_several_go_to_a_folder(tmp_path):
    rows = [{"spec": f"{SPEC} {n}", "pseudo_program": PSEUDO_PROGRAM} for n in range(2)]
    specs = tmp_path / "specs.jsonl"
    specs.write_text("\n".join(map(json.dumps, rows)))
    done = run("-f", specs, "-o", tmp_path / "out", "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(record["path"]).name for record in records] == ["specs-1.paw", "specs-2.paw"]
    assert [load(record["path"]).spec for record in records] == [row["spec"] for row in rows]
    assert store.entries() == []


def test_recompiling_the_same_makes_no_version(pseudo):
    for _ in range(2):
        assert "stored alert@v1" in run(SPEC, "--pseudo-program", pseudo, "--name", "alert").stderr


def test_what_is_stored_is_scanned_once_and_not_loaded_again(pseudo, monkeypatch):
    scanned: list[Matrix] = []
    loads: list[object] = []
    is_finite, load_program = Matrix.is_finite, formats.load

    def noted(matrix: Matrix) -> bool:
        scanned.append(matrix)
        return is_finite(matrix)

    def heard(*arguments, **options):
        loads.append(arguments)
        return load_program(*arguments, **options)

    monkeypatch.setattr(Matrix, "is_finite", noted)
    monkeypatch.setattr(formats, "load", heard)
    assert run(SPEC, "--pseudo-program", pseudo, "--name", "alert").exit_code == 0
    assert loads == []
    num_matrices = 2 * len(load_program(store.find("alert")).adapter.sites)
    made = [matrix for matrix in scanned if matrix.dtype == "f32"]
    assert len(made) == len({id(matrix) for matrix in made}) == num_matrices


def test_programs_leave_memory_once_they_are_written(tmp_path, monkeypatch):
    rows = [{"spec": f"{SPEC} {n}", "pseudo_program": PSEUDO_PROGRAM} for n in range(6)]
    specs = tmp_path / "specs.jsonl"
    specs.write_text("\n".join(map(json.dumps, rows)))
    alive: weakref.WeakSet[Program] = weakref.WeakSet()
    most, save = [], formats.save

    def counted(program: Program, *arguments, **options):
        alive.add(program)
        gc.collect()
        most.append(len(alive))
        save(program, *arguments, **options)

    monkeypatch.setattr(formats, "save", counted)
    assert run("-f", specs, "-o", tmp_path / "out").exit_code == 0
    assert max(most) <= 2


def editor(folder: Path, command: str) -> str:
    path = folder / "editor"
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


def test_the_author_corrects_the_pseudo_program(tmp_path, pseudo, monkeypatch):
    monkeypatch.setenv("EDITOR", editor(tmp_path, 'sed -i s/Friday/Monday/ "$1"'))
    out, kept = tmp_path / "alert.paw", tmp_path / "kept.txt"
    words = ["--pseudo-program", pseudo, "--edit", "--save-pseudo-program", kept, "-o", out]
    assert run(SPEC, *words).exit_code == 0
    assert load(out).pseudo_program == PSEUDO_PROGRAM.replace("Friday", "Monday")
    assert kept.read_text().strip() == load(out).pseudo_program


def test_what_the_author_wrote_is_kept_when_it_cannot_be_used(tmp_path, pseudo, monkeypatch):
    monkeypatch.setenv("EDITOR", editor(tmp_path, 'echo "two hours of work" > "$1"'))
    kept, out = tmp_path / "kept.txt", tmp_path / "alert.paw"
    words = ["--pseudo-program", pseudo, "--edit", "--save-pseudo-program", kept, "-o", out]
    done = run(SPEC, *words)
    assert done.exit_code == 1
    assert f"hint: What you wrote is in {kept}" in done.stderr
    assert kept.read_text() == "two hours of work\n"
    assert not out.exists()


@pytest.mark.parametrize(("command", "message"), [("false", "no editor"), (':> "$1"', "emptied")])
def test_an_editor_that_fails_or_empties_compiles_nothing(
    tmp_path, pseudo, monkeypatch, command, message
):
    monkeypatch.setenv("EDITOR", editor(tmp_path, command))
    out = tmp_path / "alert.paw"
    done = run(SPEC, "--pseudo-program", pseudo, "--edit", "-o", out, "--json")
    assert message in json.loads(done.stdout)["error"]["message"]
    assert not out.exists()


def test_a_spec_alone_is_enough_and_the_model_is_asked_once(tmp_path, monkeypatch):
    model = scripted_model(tmp_path / "model", "Sure!", PSEUDO_PROGRAM)
    out, kept = tmp_path / "alert.paw", tmp_path / "kept.txt"
    words = ["--pseudo-compiler", model, "-o", out]
    done = run(SPEC, *words, "--save-pseudo-program", kept, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["phases"]["pseudo_program"]["peak_bytes"] > 0
    assert load(out).pseudo_program == PSEUDO_PROGRAM
    assert kept.read_text() == f"{PSEUDO_PROGRAM}\n"
    (model / "config.json").unlink()  # it is not loaded again: the answer is kept
    (model / "config.json").write_text("{}")
    assert run(SPEC, *words).exit_code == 0
    assert run("Another spec.", *words).exit_code == 1


def test_a_model_that_cannot_write_one_is_asked_thrice_and_its_answer_shown(tmp_path):
    kept, out = tmp_path / "kept.txt", tmp_path / "alert.paw"
    model = scripted_model(tmp_path / "model", "Sure!", "[PSEUDO_PROGRAM]", "I give up.")
    words = ["--pseudo-compiler", model, "--save-pseudo-program", kept, "-o", out]
    done = run(SPEC, *words)
    assert done.exit_code == 1
    assert "3 attempts gave no usable pseudo-program" in done.stderr
    assert "The last answer was:\nI give up." in done.stderr
    assert kept.read_text() == "I give up.\n"
    assert not out.exists()


def test_a_failed_answer_is_the_authors_to_correct(tmp_path, monkeypatch):
    model = scripted_model(tmp_path / "model", "a", "b", PSEUDO_PROGRAM.replace("Task", "Tusk"))
    monkeypatch.setenv("EDITOR", editor(tmp_path, 'sed -i s/Tusk/Task/ "$1"'))
    out = tmp_path / "alert.paw"
    done = run(SPEC, "--pseudo-compiler", model, "--edit", "-o", out, "--json")
    assert done.exit_code == 0
    assert "no task" in done.stderr
    assert json.loads(done.stdout)["phases"]["pseudo_program"]["peak_bytes"] > 0
    assert load(out).meta["paw_mlx"]["pseudo_program"] == "edited"
    assert load(out).pseudo_program == PSEUDO_PROGRAM


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([SPEC], 2, "give -o OUT.paw or --name NAME"),
        ([SPEC, "-f", "{pseudo}", "-o", "x"], 2, "not both"),
        ([SPEC, "-o", "x", "--bits", "5"], 2, "--bits"),
        (["-f", "{pseudo}", "-f", "{other}", "-o", "x/", "--edit"], 2, "for a single spec"),
        (["-f", "{pseudo}", "-f", "{pseudo}", "-o", "x/"], 1, "given twice: pseudo"),
        (["-f", "{pseudo}", "-f", "{other}", "-o", "x.paw"], 1, "a file's name"),
        (["-f", "{pseudo}", "-f", "{other}", "-o", "{empty}"], 1, "a file's name"),
        (["-f", "{twice}", "-o", "out/"], 1, "1 files would be written twice: out/me-a.paw"),
        (["-f", "missing.txt", "-o", "x.paw"], 1, "cannot read missing.txt"),
        ([SPEC, "-o", "no/such/folder/x.paw", "--pseudo-program", "{pseudo}"], 1, "folder is miss"),
        ([" ", "-o", "x.paw"], 1, "the spec is empty"),
        ([SPEC, "-o", "x.paw", "--pseudo-compiler", "{pseudo}"], 1, "no base"),
        ([SPEC, "--name", "No Name"], 1, "cannot name a program"),
        ([SPEC, "-o", "x.paw", "--instruction", "{empty}"], 1, "is empty"),
        (
            [SPEC, "-o", "x.paw", "--labels", "A,B", "--text"],
            2,
            "--text is for outputs of no other",
        ),
        ([SPEC, "-o", "x.paw", "--labels", "A,B", "--regex", "A"], 2, "--labels or --regex"),
        ([SPEC, "-o", "x.paw", "--labels", "A,A"], 1, "--labels: the label 'A' is there twice"),
        (
            [SPEC, "-o", "x.paw", "--labels", "@{other}"],
            1,
            "other.txt: labels are 2 to 65,536, and",
        ),
        ([SPEC, "-o", "x.paw", "--regex", "(A"], 1, "unclosed group"),
        ([SPEC, "-o", "x.paw", "--schema", "{other}"], 1, "other.txt holds no valid JSON"),
        ([SPEC, "-o", "x.paw", "--schema", "{schema}"], 1, "The schema is "),
    ],
)
def test_a_wrong_call_gets_one_clear_sentence(tmp_path, pseudo, words, code, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text("Say no.")
    (tmp_path / "empty.txt").write_text("")
    rows = [{"spec": "a", "name": "me/a"}, {"spec": "b", "name": "me-A"}]
    (tmp_path / "twice.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = {name: tmp_path / f"{name}.txt" for name in ("pseudo", "other", "empty")}
    files["twice"], files["schema"] = tmp_path / "twice.jsonl", tmp_path / "schema.json"
    files["schema"].write_text('{"type": "objekt"}')
    done = run(*(word.format(**files) for word in words), "--offline")
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr
    assert not list(tmp_path.glob("*.paw"))
