"""The own API: a call over HTTP gives what the function gives here."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import tiny
from http_servers import LONG, Served, http_server, store_functions
from toy_served import SPEC, Toy

import paw_mlx as paw
from paw_mlx import formats, jobs, kept_cases, store
from paw_mlx.cases import Case
from paw_mlx.evaluation import compare, judge
from paw_mlx.serving.residents import Residents

TEXTS = ["the disk is full", "spring picnic", "the server is down", "привет 🌍", ""]
EIGHT = {"max_tokens": 8}


@pytest.mark.parametrize(
    "reference", ["words", "words@v1", "me/topic", "me%2Ftopic", "me/topic@v1"]
)
def test_a_call_gives_what_the_function_gives(server: Served, reference: str) -> None:
    fn = paw.function(reference.replace("%2F", "/"))
    for text in TEXTS:
        answer = server.post(f"/paw/v1/run/{reference}", {"input": text, "options": EIGHT}).json()
        result = fn.run(text, max_tokens=8)
        assert answer["text"] == result.text
        assert answer["output_tokens"] == result.output_tokens
        assert answer["program_id"] == fn.program.id
        assert answer["value"] == (result.value if result.is_whole or result.decision else None)
        if result.decision:
            assert answer["probabilities"] == pytest.approx(result.decision.probabilities)


def test_pieces_come_as_events_and_join_to_the_text(server: Served) -> None:
    body = {"input": "the disk", "options": {"max_tokens": 40}, "stream": True}
    *pieces, last = server.events("POST", "/paw/v1/run/words", body)
    assert len(pieces) > 5
    assert {name for name, _ in pieces} == {"piece"}
    assert last[0] == "result"
    assert "".join(data["text"] for _, data in pieces) == last[1]["text"]
    assert last[1]["output_tokens"] == 40


def test_an_error_ends_a_stream_as_an_event(server: Served) -> None:
    body = {"input": "disk " * 40_000, "stream": True}
    assert [name for name, _ in server.events("POST", "/paw/v1/run/words", body)] == ["error"]


def test_a_label_is_decided_and_text_is_not(server: Served) -> None:
    found = server.post("/paw/v1/decide/me/topic", {"input": "the disk is full"}).json()
    decision = paw.function("me/topic").decide("the disk is full")
    assert found["label"] == decision.label
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    strict = {"input": "x", "options": {"threshold": 0.99, "otherwise": "nothing"}}
    assert server.post("/paw/v1/run/me/topic", strict).json()["value"] == "nothing"
    assert server.post("/paw/v1/decide/words", {"input": "x"}).status_code == 400


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "no JSON"),
        (b"[]", "no object"),
        (b'"' + b"\\ud800" + b'"', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"{}", "'input' is missing"),
        (b'{"input": 3}', "must be text"),
        (b'{"input": "a", "inptu": 1}', "'inptu'"),
        (b'{"input": "a", "options": {"max_tokens": "3"}}', "must be an integer"),
        (b'{"input": "a", "options": {"max_tokens": true}}', "must be an integer"),
        (b'{"input": "a", "options": {"temperature": 1e999}}', "temperature"),
        (b'{"input": "a", "options": {"temperature": 1' + b"0" * 400 + b"}}", "too large"),
        (b'{"input": "a", "options": {"overflow": "x"}}', "overflow"),
    ],
)
def test_a_bad_body_is_refused_in_a_sentence(server: Served, body: bytes, told: str) -> None:
    answer = server.client.post("/paw/v1/run/words", content=body)
    assert answer.status_code == 400
    assert told in answer.json()["message"]
    assert "\n" not in answer.json()["message"]


def test_a_row_goes_out_before_the_next_comes_in(server: Served) -> None:
    """JSON lines, both ways at once: the answer of a line comes while the body is still open."""
    head = "POST /paw/v1/map/words?max_tokens=4 HTTP/1.1\r\nHost: localhost\r\n"
    with server.connect() as connection, connection.makefile("rb") as answers:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for number, text in enumerate(TEXTS):
            row = json.dumps({"input": text, "id": number}).encode() + b"\n"
            connection.sendall(b"%x\r\n%s\r\n" % (len(row), row))
            line = b""
            while not line.startswith(b"{"):
                line = answers.readline()
                assert line, "the answer ended"
            found = json.loads(line)
            assert found["id"] == number
            assert found["output"] == paw.function("words").run(text, max_tokens=4).text
        connection.sendall(b"0\r\n\r\n")
        assert b"0\r\n" in [answers.readline() for _ in range(3)]


def test_rows_are_mapped_in_order_and_keep_what_they_have(server: Served) -> None:
    rows: list[Any] = [{"input": f"{n % 7} disk", "id": n} for n in range(300)]
    rows[5], rows[6], rows[7] = "the server", {"id": 6}, {"input": 4}
    body = "".join(json.dumps(row) + "\n" for row in rows).replace('"id": 299}\n', '"id": 299}')
    answer = server.client.post("/paw/v1/map/words?max_tokens=4", content=body)
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert len(found) == 300
    assert [row.get("id") for row in found] == [n if n not in (5, 7) else None for n in range(300)]
    assert "output" in found[5]
    assert [n for n, row in enumerate(found) if "error" in row] == [6, 7]
    for n in (0, 6 + 7, 299):
        assert found[n]["output"] == paw.function("words").run(f"{n % 7} disk", max_tokens=4).text


def test_a_map_that_cannot_begin_says_so_by_its_status(server: Served) -> None:
    two = server.client.post("/paw/v1/map/words", content=b'{"a": "x", "b": "y"}\n')
    assert (two.status_code, two.json()["error"]) == (400, "FieldError")
    assert server.client.post("/paw/v1/map/nobody", content=b'"x"\n').status_code == 404
    assert server.client.post("/paw/v1/map/words?seed=x", content=b"").status_code == 400
    assert server.client.post("/paw/v1/map/words", content=b"").text == ""


def test_a_body_is_read_no_faster_than_its_answers_are_taken(server: Served) -> None:
    head = "POST /paw/v1/map/words?max_tokens=1 HTTP/1.1\r\nHost: localhost\r\n"
    row = b'"' + b"disk " * 200 + b'"\n'
    num_bytes = 0
    with server.connect(2.0) as connection, suppress(TimeoutError):
        connection.sendall(f"{head}Content-Length: 1000000000\r\n\r\n".encode())
        while num_bytes < 100 << 20:
            num_bytes += connection.send(row * 50)
    assert num_bytes < 40 << 20  # most of it in the kernel's buffers, on both sides


@pytest.mark.parametrize("how", ["run", "stream", "map", "test"])
def test_a_client_that_leaves_ends_its_call(base: Path, how: str) -> None:
    store_functions(base)
    kept_cases.add("words", [Case(f"x {n}", "y") for n in range(300)])
    residents = Residents()
    bodies = {
        "run": ("run/words", {"input": "x", "options": LONG}),
        "stream": ("run/words", {"input": "x", "options": LONG, "stream": True}),
        "map": ("map/words?max_tokens=30000", {"input": "x"}),
        "test": ("test/words", {}),
    }
    path, body = bodies[how]
    content = json.dumps(body)
    with http_server(residents) as server, server.connect() as connection:
        connection.sendall(
            f"POST /paw/v1/{path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(content)}\r\n\r\n{content}".encode()
        )
        deadline = time.monotonic() + 20
        while not (residents.bases and residents.bases[0].loaded and not residents.bases[0].idle_s):
            assert time.monotonic() < deadline, "the call did not begin"
            time.sleep(0.01)
        connection.close()
        deadline = time.monotonic() + 5
        while not residents.bases[0].idle_s:
            assert time.monotonic() < deadline, "the call goes on"
            time.sleep(0.01)
        assert server.number("paw_calls_in_flight") == 0


def test_cases_are_kept_listed_and_removed(server: Served) -> None:
    case = {"input": "the disk is full", "output": "disk"}
    path = "/paw/v1/cases/me%2Ftopic"
    added = server.post(path, case)
    assert (added.status_code, added.json()) == (201, {"number": 1, "status": "new"})
    again = server.post(path, case | {"output": "server"})
    assert (again.status_code, again.json()["status"]) == (200, "replaced")
    assert server.client.get(path).json()["cases"] == [case | {"output": "server", "number": 1}]
    assert server.post(path, case | {"output": "moon"}).status_code == 400
    for number in ("2", "0", "x", "", "-1"):
        assert server.client.delete(f"{path}?number={number}").status_code == 400
    assert server.client.delete(f"{path}?number=1").json()["removed"]["output"] == "server"
    assert kept_cases.read("me/topic") == []


def test_a_test_tells_what_the_judge_says(server: Served) -> None:
    cases = [Case(f"{n} {word}", word) for n in range(5) for word in ("disk", "server", "picnic")]
    kept_cases.add("me/topic", cases)
    *progress, last = server.events("POST", "/paw/v1/test/me/topic", {"gate": "accuracy>=99%"})
    report = judge(paw.function("me/topic"), cases)
    told = json.loads(json.dumps(report.record()))
    assert progress[-1] == ("progress", {"done": 15, "total": 15})
    assert last[0] == "report"
    assert last[1]["failures"] == told["failures"]
    assert last[1]["decisions"]["log_loss"] == pytest.approx(told["decisions"]["log_loss"])
    cells = {(one["expected"], one["output"]): one["cases"] for one in last[1]["confusion"]}
    assert cells == report.confusion()
    assert last[1]["curve"][-1]["coverage"] == 1
    assert last[1]["gate"]["passed"] is False
    assert "should be >= 99" in last[1]["gate"]["missed"][0]
    assert server.post("/paw/v1/test/words").status_code == 400  # it has no cases
    assert server.post("/paw/v1/test/me/topic", {"gate": "nonsense"}).status_code == 400


def test_two_functions_are_compared_on_the_cases_of_the_first(server: Served, base: Path) -> None:
    cases = [Case(f"{n} disk", "disk") for n in range(4)]
    kept_cases.add("me/topic", cases)
    *_, last = server.events("POST", "/paw/v1/compare/me/topic", {"with": "words"})
    reports = [judge(paw.function(name), cases) for name in ("me/topic", "words")]
    assert last[0] == "comparison"
    assert last[1]["a"]["accuracy"] == reports[0].accuracy
    assert last[1]["p_value"] == compare(*reports).p_value
    assert server.post("/paw/v1/compare/me/topic", {"with": "nobody"}).status_code == 404


def test_functions_are_listed_with_their_versions(server: Served, base: Path) -> None:
    store.add(tiny.program("llama", 2), "words", dtype="f32", profile=tiny.profile("llama"))
    store.rollback("words")
    topic, words = server.client.get("/paw/v1/functions").json()["functions"]
    assert (topic["name"], topic["output"]["labels"]) == ("me/topic", ["disk", "server", "picnic"])
    assert (words["name"], words["current"]) == ("words", 1)
    assert [one["version"] for one in words["versions"]] == [2, 1]
    assert words["program_id"] == paw.function("words").program.id
    second = server.client.get("/paw/v1/functions/words@v2").json()
    assert second["program_id"] != words["program_id"]
    assert server.client.get("/paw/v1/functions/words@v9").status_code == 404


def test_a_damaged_program_hides_no_other(server: Served) -> None:
    store.find("words").write_bytes(b"PK\x03\x04 nothing")
    topic, words = server.client.get("/paw/v1/functions").json()["functions"]
    assert topic["output"]["type"] == "labels"
    assert words["error"]
    assert server.post("/paw/v1/run/words", {"input": "x"}).status_code == 400


def test_a_spec_is_compiled_and_watched_to_its_end(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = Toy(tmp_path_factory.mktemp("toy"))
    with http_server(compiles=made.compiles()) as server:
        body = {"spec": SPEC, "name": "me/disk"}
        job = server.post("/paw/v1/compiles", body)
        assert job.status_code == 202
        path = f"/paw/v1/compiles/{job.json()['id']}"
        *progress, last = server.events("GET", f"{path}/events")
        assert {name for name, _ in progress} == {"progress"}
        percents = [data["percent"] for _, data in progress]
        assert percents == sorted(percents)
        assert last[0] == "ready", last
        assert last[1]["reference"] == "me/disk@v1"
        assert server.client.get(path).json()["state"] == "ready"
        assert server.client.get("/paw/v1/compiles").json()["compiles"][0]["id"] == last[1]["id"]
        assert server.client.delete(path).json()["state"] == "ready"
        assert server.post("/paw/v1/compiles", {"spec": "x", "compiler": "/etc"}).status_code == 400
        assert server.client.get("/paw/v1/compiles/nobody/events").status_code == 404
    assert store.find("me/disk")


def test_tuning_is_begun_in_the_background_and_stopped(base: Path, server: Served) -> None:
    path = "/paw/v1/tune/me/topic"
    assert server.client.get("/paw/v1/jobs").json() == {"jobs": []}
    assert "no cases" in server.post(path).json()["message"]
    labels = ("disk", "server", "picnic")
    kept_cases.add("me/topic", [Case(f"{n} {word}", word) for n in range(9) for word in labels])
    for wrong in ({"gate": "x"}, {"minutes": 0}, {"steps": -1}, {"steps": 1.5}, {"output": "/x"}):
        assert server.post(path, wrong).status_code == 400
    for endless in (b"Infinity", b"1e999", b"NaN", b"-Infinity"):
        refused = server.client.post(path, content=b'{"minutes": %s}' % endless)
        assert refused.status_code == 400
        assert "'minutes'" in refused.json()["message"]
    assert server.post("/paw/v1/tune/me/topic@v1").status_code == 400
    begun = server.post(path, {"steps": 500, "gate": "accuracy >= 10%"})
    assert begun.status_code == 202, begun.text
    job = begun.json()
    assert job["state"] == "running"
    assert job["argv"][:3] == ["tune", "me/topic", "--steps=500"]
    assert server.client.delete(f"/paw/v1/jobs/{job['id']}").json()["state"] in ("stopped", "done")
    assert isinstance(server.client.get(f"/paw/v1/jobs/{job['id']}").json()["log"], list)
    assert jobs.read(job["id"]).state in ("stopped", "done")
    assert server.client.get("/paw/v1/jobs/..%2f..%2fx").status_code == 404


@pytest.mark.slow
def test_a_function_is_tuned_once_at_a_time_and_few_are(base: Path, server: Served) -> None:
    """Whoever asks at once, too; what ended leaves its place."""
    for name in ("third", "fourth"):
        made = formats.load(store.find("me/topic"))
        store.add(made, name, dtype="f32", profile=tiny.profile("llama"))
    names = ("me/topic", "words", "third", "fourth")
    for name in names:
        kept_cases.add(name, [Case(f"{n} disk", "disk") for n in range(40)])

    def tune(name: str) -> httpx.Response:
        return server.post(f"/paw/v1/tune/{name}", {"steps": 100_000, "minutes": 5})

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(tune, ["me/topic"] * 4))
    assert sorted(answer.status_code for answer in answers) == [202, 429, 429, 429]
    first = next(answer.json()["id"] for answer in answers if answer.status_code == 202)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "60"
    assert refused.json()["error"] == "too_many_requests"
    assert refused.json()["message"] == "me/topic is being tuned already"
    assert f"/paw/v1/jobs/{first}" in refused.json()["hint"]
    with ThreadPoolExecutor(3) as pool:
        others = list(pool.map(tune, names[1:]))
    assert sorted(answer.status_code for answer in others) == [202, 429, 429]
    assert len([job for job in jobs.entries() if job.state == "running"]) == 2
    assert server.client.delete(f"/paw/v1/jobs/{first}").json()["state"] == "stopped"
    assert tune("me/topic").status_code == 202
    for job in jobs.entries():
        if job.state == "running":
            jobs.stop(job.id)
