"""The PAW service compiles: at once or as a job, never twice the same, with errors it explains."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
import tiny
from asker import Asker
from http_servers import http_server
from toy_served import SPEC, OnBase, Toy

from paw_mlx import formats, store
from paw_mlx.compiler.pipeline import Compiler
from paw_mlx.errors import CompileError
from paw_mlx.interpreter import Interpreter
from paw_mlx.runner import Options
from paw_mlx.serving.compiles import Compiles


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def compiles(toy: Toy) -> Compiles:
    return toy.compiles()


@pytest.fixture
def ask(toy: Toy, compiles: Compiles) -> Iterator[Asker]:
    functions = OnBase(toy.base)
    with http_server(functions, compiles) as served:
        yield Asker(served)
    functions.close()


def test_a_spec_becomes_a_program_that_runs_as_here(ask: Asker, toy: Toy) -> None:
    status, made = ask("POST", "/compile", json={"spec": SPEC, "public": True, "slug": "me/disk"})
    assert (status, made["status"], made["slug"], made["version"]) == (200, "ready", "me/disk", 1)
    assert made["version_action"] == "created"
    assert made["timings"]["total_ms"] > 0
    body = {"program_id": made["program_id"], "input": "disk full"}
    status, answer = ask("POST", "/infer", json=body)
    program = formats.load(store.find("me/disk"))
    with Interpreter.load(str(toy.base)) as here:
        wanted = here.run(program, "disk full", Options())
    assert (status, answer["output"]) == (200, wanted.text)
    assert answer["tokens_generated"] == wanted.output_tokens


def test_what_was_compiled_before_is_not_compiled_again(
    ask: Asker, compiles: Compiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask("POST", "/compile/precheck", json={"spec": SPEC})[1]["cached"] is False
    _, first = ask("POST", "/compile", json={"spec": SPEC})
    _, checked = ask("POST", "/compile/precheck", json={"spec": f" {SPEC}\n"})
    assert (checked["cached"], checked["program_id"]) == (True, first["program_id"])
    monkeypatch.setattr(Compiler, "load", None)  # nobody needs it
    _, again = ask("POST", "/compile", json={"spec": SPEC})
    assert again["program_id"] == first["program_id"]
    assert (again["version_action"], len(compiles.entries())) == ("no_change", 1)
    _, named = ask("POST", "/compile", json={"spec": SPEC, "slug": "disk"})
    assert (named["slug"], named["program_id"]) == ("disk", first["program_id"])
    assert store.current("disk") == 1


def test_a_program_that_was_changed_since_is_not_taken_for_what_the_compiler_made(
    ask: Asker,
) -> None:
    ask("POST", "/compile", json={"spec": SPEC, "slug": "disk"})
    program = formats.load(store.find("disk"))
    tuned = replace(program, meta={**program.meta, "compiler_kind": "finetune_lora"})
    store.remove("disk")
    store.add(tuned, "disk", profile=tiny.profile("llama"))
    assert ask("POST", "/compile/precheck", json={"spec": SPEC})[1]["cached"] is False


def test_a_job_is_polled_to_its_end(ask: Asker) -> None:
    status, job = ask("POST", "/compile/async", json={"spec": SPEC, "compiler": ""})
    assert status == 202
    assert job["job_id"].isalnum()
    end = time.monotonic() + 60
    while job["status"] not in ("ready", "failed", "cancelled"):
        assert time.monotonic() < end
        time.sleep(0.05)
        status, job = ask("GET", f"/compile/{job['job_id']}")
        assert status == 200
    assert (job["status"], job["percent"], job["error"]) == ("ready", 100.0, None)
    assert job["completed_at"] >= job["created_at"]
    assert ask("GET", f"/programs/resolve/{job['slug']}")[1]["program_id"] == job["program_id"]
    status, refusal = ask("DELETE", f"/compile/{job['job_id']}")
    assert (status, refusal["detail"]) == (409, "the compile is ready already")


def test_a_waiting_job_is_cancelled_and_a_client_that_hangs_up_cancels_its_own(
    ask: Asker, compiles: Compiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, going = threading.Event(), threading.Event()
    write = Compiler.write

    def held(compiler: Compiler, compilation: object) -> str:
        begun.set()
        assert going.wait(60)
        return write(compiler, compilation)  # type: ignore[arg-type]

    monkeypatch.setattr(Compiler, "write", held)
    with pytest.raises(httpx.ReadTimeout), httpx.Client(trust_env=False) as client:
        client.post(f"{ask.url}/compile", json={"spec": SPEC, "slug": "mine"}, timeout=0.5)
    assert begun.wait(60)
    _, job = ask("POST", "/compile/async", json={"spec": SPEC, "slug": "waits"})
    assert job["queue_position"] == 1
    assert ask("DELETE", f"/compile/{job['job_id']}") == (
        200,
        {"job_id": job["job_id"], "status": "cancelled"},
    )
    end = time.monotonic() + 30
    while any(job.state == "compiling" for job in compiles.entries()):
        assert time.monotonic() < end
        time.sleep(0.05)
    going.set()
    assert {job.state for job in compiles.entries()} == {"cancelled"}
    compiles.close()
    assert store.entries() == []


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"spec": "too short"}, 422, "the spec has 9 characters, and needs at least 10"),
        ({"spec": "     "}, 422, "the spec has 0 characters"),
        ({}, 400, "the field 'spec' is missing"),
        ({"spec": 12}, 400, "the field 'spec' must be text"),
        ({"spec": SPEC, "slug": ["x"]}, 400, "the field 'slug' must be text"),
        ({"spec": SPEC, "compiler": "../../etc"}, 400, "no compiler is called '../../etc'"),
        ({"spec": SPEC, "slug": "../../etc"}, 400, "cannot name a program"),
        ([], 400, "the body is JSON, but no object"),
    ],
)
@pytest.mark.parametrize("path", ["/compile", "/compile/async"])
def test_a_wrong_request_is_one_sentence_in_the_fields_that_the_sdk_reads(
    ask: Asker, path: str, body: object, status: int, said: str
) -> None:
    got, answer = ask("POST", path, json=body)
    assert (got, said in answer["message"]) == (status, True), answer
    assert answer["detail"] == answer["message"]
    assert isinstance(answer["error"], str)


def test_a_body_that_is_no_json_is_said_to_be_none(ask: Asker) -> None:
    for data in (b"{", b"\xff", b"[" * 100_000):
        status, answer = ask("POST", "/compile", content=data)
        assert (status, answer["error"]) == (400, "bad_json")


def test_a_compile_that_fails_says_why_to_who_waits_and_to_who_polls(
    ask: Asker, compiles: Compiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> str:
        raise CompileError("the spec has 9,000 tokens (limit 1,792)", hint="Shorten it.")

    monkeypatch.setattr(Compiler, "write", fails)
    status, answer = ask("POST", "/compile", json={"spec": SPEC})
    assert (status, answer["error"], answer["hint"]) == (500, "CompileError", "Shorten it.")
    assert answer["message"] == "the spec has 9,000 tokens (limit 1,792)"
    told = ask("GET", f"/compile/{compiles.entries()[0].id}")[1]
    assert (told["status"], told["error"]) == ("failed", answer["message"])


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"max_tokens": 0}, 400),
        ({"max_tokens": "many"}, 400),
        ({"max_tokens": True}, 400),
        ({"temperature": -1}, 400),
        ({"input": None}, 400),
        ({"input": 7}, 400),
        ({"program_id": "0" * 32}, 404),
        ({"program_id": "/etc/passwd"}, 404),
        ({"input": "disk " * 5000}, 413),
    ],
)
def test_a_call_that_cannot_be_is_refused(
    ask: Asker, changes: dict[str, object], status: int
) -> None:
    made = ask("POST", "/compile", json={"spec": SPEC})[1]
    body = {"program_id": made["program_id"], "input": "disk"} | changes
    got, answer = ask("POST", "/infer", json=body)
    assert got == status, answer
    assert "\n" not in answer["message"]


def test_compilers_are_told_with_what_runs_their_programs(ask: Asker, toy: Toy) -> None:
    found = ask("GET", "/models/compilers")[1]["compilers"]
    assert [one["name"] for one in found if one["default"]] == [str(toy.compiler)]
    by_name = {one["name"]: one for one in found}
    embedded, published = by_name["paw-smollm2-135m"], by_name["paw-4b-qwen3-0.6b"]
    assert (embedded["runtime_id"], embedded["installed"]) == ("smollm2-135m-q4_1", True)
    assert (published["runtime_id"], published["installed"]) == ("qwen3-0.6b-q6_k", False)
