"""`paw-mlx calibrate` and what `paw-mlx test` shows of labels, on a tiny base."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from shell import Done, Paw

from paw_mlx import Interpreter, Labels, formats, load, store

WORDS = ["disk", "server", "picnic", "Friday", "down", "spring", "all", "full", "welcome", "and"]
TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS][:60]
LABELS = Labels(("down", "full"))
ASKED = ["--labels", "down,full"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a program without a type, and cases of which it gets a fifth wrong."""
    folder = tmp_path_factory.mktemp("calibrate")
    base = tiny.write_base(folder / "base", "llama")
    program = tiny.program("llama")
    formats.save(program, folder / "log.paw", dtype="f16", profile=tiny.profile("llama"))
    typed = replace(load(folder / "log.paw"), output=LABELS)
    with Interpreter.load(str(base)) as interpreter:
        said = [interpreter.run(typed, text).decision for text in TEXTS]
    sure = sorted(one.probability for one in said if one)
    assert len({one.label for one in said if one}) == 2
    rows = []
    for text, one in zip(TEXTS, said, strict=True):
        assert one
        unsure = one.probability < sure[len(sure) // 5]
        right = one.label if not unsure else ({*LABELS.labels} - {one.label}).pop()
        rows.append(json.dumps({"input": text, "output": right}) + "\n")
    (folder / "cases.jsonl").write_text("".join(rows))
    return folder


@pytest.fixture
def program(folder: Path, tmp_path: Path) -> Path:
    """A copy that may be rewritten."""
    path = tmp_path / "log.paw"
    path.write_bytes((folder / "log.paw").read_bytes())
    return path


@pytest.fixture
def run(folder: Path, call: Paw) -> Paw:
    """`paw-mlx calibrate PROGRAM` on the cases."""
    options = ["--interpreter", folder / "base"]
    return lambda program, *words: call(
        "calibrate", program, folder / "cases.jsonl", *words, *options
    )


def adapter(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read("adapter.gguf")


def refused(done: Done, message: str, hint: str = "") -> None:
    assert done.returncode == 1
    assert message in done.stderr
    assert hint in done.stderr


def test_a_file_is_rewritten_with_what_was_found(
    run: Paw, call: Paw, folder: Path, program: Path
) -> None:
    before = adapter(program)
    done = run(program, *ASKED, "--max-error", 0.2, "--otherwise", "UNSURE")
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode()
    output = load(program).output
    assert isinstance(output, Labels)
    assert (output.labels, output.otherwise) == (("down", "full"), "UNSURE")
    assert output.threshold is not None
    assert f"threshold {output.threshold:.6g}: " in shown
    assert f"wrote {program}\n" in shown
    assert "outputs are one of down, full from now on\n" in done.stderr
    assert "log loss" in shown
    assert "probability  cases" in shown
    assert adapter(program) == before  # not stored anew
    # What it promised of the cases, `test` finds.
    tested = call(
        "test", program, folder / "cases.jsonl", "--interpreter", folder / "base", "--json"
    )
    found = json.loads(tested.stdout)["decisions"]
    assert f"{found['num_decided']} of 60 cases decided" in shown
    assert found["num_decided"] >= 48
    assert {one["output"] for one in json.loads(tested.stdout)["failures"]} >= {"UNSURE"}


def test_a_second_time_gives_the_same(run: Paw, program: Path) -> None:
    run(program, *ASKED, "--max-error", 0.2, "--otherwise", "UNSURE")
    first = load(program).output
    record = json.loads(run(program, "--max-error", 0.2, "--json").stdout)
    again = load(program).output
    assert isinstance(first, Labels)
    assert isinstance(again, Labels)
    assert again.otherwise == "UNSURE"
    assert again.temperature == pytest.approx(first.temperature, rel=2e-3)
    assert again.threshold == pytest.approx(first.threshold, abs=0.01)
    assert record["path"] == str(program)
    assert record["threshold"] == again.threshold
    assert record["promise"]["num_decided"] >= 48
    assert record["fit"]["log_loss"]["before"] > 0
    assert sum(one["num"] for one in record["fit"]["bins"]["after"]) == 60


def test_a_stored_program_gets_a_new_version(run: Paw, program: Path) -> None:
    store.add(program, "log")
    done = run("log", *ASKED, "--max-error", 0.2)
    assert "stored log@v2; earlier versions are kept\n" in done.stdout.decode()
    assert store.current("log") == 2
    assert load(store.find("log@v1")).output.kind == "text"
    assert load(store.find("log")).output.kind == "labels"
    assert adapter(store.find("log@v1")) == adapter(store.find("log@v2"))


def test_out_leaves_the_program_as_it_is(run: Paw, program: Path, tmp_path: Path) -> None:
    before = program.read_bytes()
    done = run(program, *ASKED, "--max-error", 0.2, "-o", tmp_path / "new.paw")
    assert done.returncode == 0
    assert program.read_bytes() == before
    assert load(tmp_path / "new.paw").output.kind == "labels"


def test_without_a_threshold_the_temperature_alone_is_kept(run: Paw, program: Path) -> None:
    done = run(program, *ASKED)
    assert done.returncode == 1
    assert "no threshold: an error of 2% at most with confidence 90% takes 114 cases" in done.stderr
    output = load(program).output
    assert isinstance(output, Labels)
    assert output.threshold is None


def test_a_threshold_is_not_taken_away(run: Paw, program: Path) -> None:
    formats.save(
        replace(load(program), output=replace(LABELS, threshold=0.75)),
        program, dtype=None, profile=tiny.profile("llama"),
    )  # fmt: skip
    before = program.read_bytes()
    done = run(program)
    assert done.returncode == 1
    assert "nothing is written: the threshold 0.75 stays" in done.stderr
    assert program.read_bytes() == before


def test_nothing_is_lost_by_rewriting(run: Paw, program: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(program, "a") as archive:
        archive.writestr("notes.txt", "mine")
    before = program.read_bytes()
    refused(
        run(program, *ASKED), "also holds notes.txt, which writing it would remove", "-o OUT.paw"
    )
    assert program.read_bytes() == before
    (tmp_path / "link.paw").symlink_to(program)
    refused(run(tmp_path / "link.paw", *ASKED), "is not a file of its own", "-o OUT.paw")
    golden = Path(__file__).parents[1] / "golden" / "legacy.paw"
    refused(run(golden, *ASKED), "of the layout paw-v2, which is not written", "-o OUT.paw")
    folder = tmp_path / "folder"
    formats.save(load(program), f"{folder}/", dtype=None, profile=tiny.profile("llama"))
    assert run(folder, *ASKED, "--max-error", 0.2).returncode == 0
    assert load(folder).output.kind == "labels"
    (folder / "notes.txt").write_text("mine")
    refused(run(folder, *ASKED), "also holds notes.txt")
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_full_disk_leaves_the_old_program(
    run: Paw, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = program.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paw_mlx.formats.bundle.pack", full)
    refused(run(program, *ASKED, "--max-error", 0.2), f"cannot write {program}: No space left")
    assert program.read_bytes() == before
    assert [path.name for path in program.parent.iterdir()] == ["log.paw"]


def test_only_labels_are_calibrated(run: Paw, program: Path) -> None:
    refused(run(program), "labels are calibrated, and the program's output is text", "--labels A,B")
    assert run(program, "--max-error", 1).returncode == 2


def test_a_plot_is_drawn_where_matplotlib_is(run: Paw, program: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, head in (("plot.svg", b"<?xml"), ("plot.png", b"\x89PNG")):
        done = run(program, *ASKED, "--max-error", 0.2, "--plot", tmp_path / name)
        assert done.returncode == 0
        assert (tmp_path / name).read_bytes().startswith(head)
    refused(run(program, *ASKED, "--plot", tmp_path / "plot.txt"), "written as .svg or .png")


# --- test ----------------------------------------------------------------------------------


def test_labels_are_tested_by_how_sure_they_are(call: Paw, folder: Path, tmp_path: Path) -> None:
    options = ["--interpreter", folder / "base", *ASKED]
    done = call("test", folder / "log.paw", folder / "cases.jsonl", *options)
    shown = done.stdout.decode()
    assert "log loss " in shown
    assert "calibration error " in shown
    assert "decided  wrong  threshold\n100.0%" in shown
    assert "NDCG" not in shown
    assert "accuracy 80.0% (48 of 60)" in shown
    careful = call("test", folder / "log.paw", folder / "cases.jsonl", *options, "--threshold", 1)
    assert "decided 0 of 60\naccuracy 0.0%" in careful.stdout.decode()
    assert "expected" not in careful.stdout.decode()
    rows = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    graded = tmp_path / "graded.jsonl"
    graded.write_text(
        "".join(json.dumps(row | {"group": n % 4}) + "\n" for n, row in enumerate(rows))
    )
    record = json.loads(call("test", folder / "log.paw", graded, *options, "--json").stdout)
    assert 0.5 < record["ndcg"] <= 1
    assert record["failures"][0]["decision"]["label"] in LABELS.labels
    assert record["decisions"]["risk_coverage"][-1]["error"] == pytest.approx(0.2)


def test_text_is_tested_as_before(call: Paw, folder: Path) -> None:
    options = ["--interpreter", folder / "base", "--max-tokens", 2]
    done = call("test", folder / "log.paw", folder / "cases.jsonl", *options, "--json")
    assert {*json.loads(done.stdout)} == {
        "program_id", "accuracy", "interval", "cases", "num_correct", "num_failed", "num_unended",
        "seconds", "labels", "macro_f1", "failures",
    }  # fmt: skip
    assert {*json.loads(done.stdout)["failures"][0]} == {
        "input", "expected", "output", "error", "finish_reason",
    }  # fmt: skip
