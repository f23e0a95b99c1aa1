"""Compile jobs: one at a time, watched, cancelled, and in the store when they are ready."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from toy_served import SPEC, Toy

from paw_mlx import formats, store
from paw_mlx.compiler.pipeline import Compiler
from paw_mlx.errors import CompileError, NotFound, OptionError, QueueFull
from paw_mlx.output import Labels
from paw_mlx.serving.compiles import MAX_WAITING, Compiles


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def compiles(toy: Toy) -> Iterator[Compiles]:
    made = toy.compiles()
    yield made
    made.close()


class Gate:
    """Holds every compile before it begins, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        write = Compiler.write

        def held(compiler: Compiler, compilation: object) -> str:
            self.reached.set()
            assert self.open.wait(60)
            return write(compiler, compilation)  # type: ignore[arg-type]

        monkeypatch.setattr(Compiler, "write", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, compiles: Compiles) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()
    compiles.close()


def test_a_job_is_watched_to_its_end_and_its_program_is_stored(compiles: Compiles) -> None:
    job = compiles.start(SPEC)
    seen = [job]
    while not job.is_done:
        job = compiles.changes(job.id, job.revision, 30)
        seen.append(job)
    assert seen[0].state == "queued"
    assert (job.state, job.percent, job.error) == ("ready", 100.0, None)
    percents, revisions = [j.percent for j in seen], [j.revision for j in seen]
    assert percents == sorted(percents)
    assert revisions == sorted(set(revisions))
    assert job.reference == f"compiled/{job.program_id[:8]}@v1"
    program = formats.load(store.find(job.reference))
    assert (program.id, program.spec) == (job.program_id, SPEC)
    assert program.output.labels == ("0", "1")
    record = job.record()
    assert record["created_at"] <= record["started_at"] <= record["completed_at"]


def test_a_name_and_labels_are_kept_and_the_same_again_is_no_new_version(
    compiles: Compiles,
) -> None:
    first = compiles.wait(
        compiles.start("Is the disk there?", name="me/disk", labels=["y", "n"]).id
    )
    again = compiles.wait(
        compiles.start("Is the disk there?", name="me/disk", labels=["y", "n"]).id
    )
    other = compiles.wait(compiles.start("Is a server there?", name="me/disk").id)
    assert [job.reference for job in (first, again, other)] == [
        "me/disk@v1",
        "me/disk@v1",
        "me/disk@v2",
    ]
    assert [job.created_version for job in (first, again, other)] == [True, False, True]
    assert isinstance(output := formats.load(store.find("me/disk@v1")).output, Labels)
    assert output.labels == ("y", "n")
    assert [job.id for job in compiles.entries()] == [other.id, again.id, first.id]


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("  ", {}, "the spec is empty"),
        (SPEC, {"name": "../x"}, "cannot name a program"),
        (SPEC, {"labels": ["one"]}, "labels are 2 to"),
        (SPEC, {"compiler": "/etc"}, "no compiler is called '/etc'"),
        (SPEC, {"compiler": "org/some-compiler"}, "no compiler is called"),
    ],
)
def test_what_cannot_be_compiled_is_refused_before_it_waits(
    compiles: Compiles, spec: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        compiles.start(spec, **options)  # type: ignore[arg-type]
    assert compiles.entries() == []


def test_a_cancelled_job_stores_nothing_whether_it_waits_or_runs(
    compiles: Compiles, gate: Gate
) -> None:
    runs, waits = compiles.start(SPEC, name="runs"), compiles.start(SPEC, name="waits")
    assert gate.reached.wait(60)
    assert compiles.get(runs.id).state == "compiling"
    assert (compiles.position(runs.id), compiles.position(waits.id)) == (None, 1)
    assert compiles.cancel(waits.id).state == "cancelled"
    assert compiles.cancel(runs.id).state == "cancelled"
    gate.open.set()
    after = compiles.wait(compiles.start(SPEC, name="after").id, 60)
    assert after.state == "ready"
    assert [entry.name for entry in store.entries()] == ["after"]
    assert compiles.cancel(after.id).state == "ready"  # too late, and said so
    assert compiles.get(runs.id).state == "cancelled"


def test_only_so_many_wait(compiles: Compiles, gate: Gate) -> None:
    compiles.start(SPEC)
    assert gate.reached.wait(60)
    jobs = [compiles.start(SPEC) for _ in range(MAX_WAITING)]
    with pytest.raises(QueueFull, match=f"{MAX_WAITING} compiles wait already"):
        compiles.start(SPEC)
    compiles.cancel(jobs[0].id)
    assert compiles.start(SPEC).state == "queued"


def test_closing_cancels_what_waits_and_takes_no_more(compiles: Compiles, gate: Gate) -> None:
    runs = compiles.start(SPEC)
    assert gate.reached.wait(60)
    threading.Timer(0.5, gate.open.set).start()
    begin = time.monotonic()
    compiles.close()
    assert time.monotonic() - begin < 30
    assert compiles.get(runs.id).state == "cancelled"
    assert store.entries() == []
    with pytest.raises(QueueFull, match="the server ends"):
        compiles.start(SPEC)


def test_an_error_is_its_job_s_and_the_next_one_is_compiled(
    compiles: Compiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as context:
        errors = iter([CompileError("it is too long", hint="Shorten it."), ZeroDivisionError()])

        def fails(*arguments: object) -> str:
            raise next(errors)

        context.setattr(Compiler, "write", fails)
        failed = compiles.wait(compiles.start(SPEC).id, 60)
        bug = compiles.wait(compiles.start(SPEC).id, 60)
    assert (failed.state, failed.error, failed.code, failed.hint) == (
        "failed",
        "it is too long",
        "CompileError",
        "Shorten it.",
    )
    assert (bug.state, bug.code) == ("failed", "internal")
    assert "ZeroDivisionError" in caplog.text
    assert compiles.wait(compiles.start(SPEC).id, 60).state == "ready"


def test_an_unknown_id_is_not_found(compiles: Compiles) -> None:
    for call in (compiles.get, compiles.cancel, compiles.wait):
        with pytest.raises(NotFound, match="no compile has the id 'x'"):
            call("x")


def test_without_a_word_the_embedded_compiler_compiles() -> None:
    assert Compiles().compiler == "paw-smollm2-135m"
    assert "paw-4b-qwen3-0.6b" in Compiles().compilers()


def test_a_process_that_compiled_in_a_thread_ends_well(toy: Toy) -> None:
    code = f"""
from paw_mlx.serving.compiles import Compiles
compiles = Compiles({str(toy.compiler)!r}, interpreter={str(toy.base)!r}, offline=True)
print(compiles.wait(compiles.start({SPEC!r}).id, 60).state)
compiles.close()
"""
    for _ in range(4):  # without its care it aborts every other time
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")
