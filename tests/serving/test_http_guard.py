"""Who may ask a server, and what is refused: pages, other names, no token, too much."""

from __future__ import annotations

import json
import select
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from http_servers import LONG, Served, http_process, http_server, store_functions
from shell import paw

from paw_mlx import formats, jobs, kept_cases, settings, store
from paw_mlx.serving.http.state import Limits

RUN = "/paw/v1/run/words"
TOKEN = "0123456789abcdef"


def status_of(answer: bytes) -> int:
    """Return the status of a raw answer; 0 for none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def head(line: str, *headers: str, host: str = "127.0.0.1", close: bool = True) -> bytes:
    """Return the head of a request; with `close`, of a connection that ends with the answer."""
    ends = ["Connection: close"] if close else []
    lines = [f"{line} HTTP/1.1", f"Host: {host}", *ends, *headers]
    return "".join(f"{each}\r\n" for each in [*lines, ""]).encode()


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8017",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "evil.example/localhost",
        "10.0.0.1",
        "[::2]",
        "[",
        "",
        "127.0.0.1:80:80",
    ],
)
def test_a_rebound_name_is_refused_whatever_it_asks(server: Served, host: str) -> None:
    for line in ("GET /health", "GET /paw/v1/functions", f"POST {RUN}"):
        assert status_of(server.send(head(line, host=host))) == 421


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:80", "localhost."]
)
def test_its_own_names_are_let_through_at_any_port(server: Served, host: str) -> None:
    assert status_of(server.send(head("GET /paw/v1/functions", host=host))) == 200


def test_no_host_and_two_hosts_are_refused(server: Served) -> None:
    assert status_of(server.send(b"GET /health HTTP/1.0\r\n\r\n")) == 421
    assert status_of(server.send(head("GET /health", "Host: evil.example"))) == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},  # another port is another origin
        {"Origin": "https://{host}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},  # a form
    ],
)
def test_a_page_of_another_origin_can_do_nothing(server: Served, headers: dict[str, str]) -> None:
    told = {key: value.format(host=f"127.0.0.1:{server.port}") for key, value in headers.items()}
    paths = (RUN, "/paw/v1/compiles", "/paw/v1/cases/words", "/v1/chat/completions")
    for path in (*paths, "/api/v1/compile", "/paw/v1/map/words"):
        answer = server.client.post(path, headers=told, content=b'{"input": "x"}')
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
    asked = told | {"Access-Control-Request-Method": "POST"}
    assert server.client.options(RUN, headers=asked).status_code == 403
    assert server.client.delete("/paw/v1/cases/words?number=1", headers=told).status_code == 403
    assert server.client.get("/paw/v1/cases/words").json() == {"cases": []}


def test_the_page_itself_and_a_link_to_it_are_let_through(server: Served) -> None:
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert server.post("/paw/v1/cases/words", {"input": "a", "output": "b"}, headers=own).is_success
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.client.get("/workbench/", headers=link).status_code == 200
    for place in ("iframe", "object", "embed"):
        assert server.client.get("/workbench/", headers=link | {"Sec-Fetch-Dest": place}).is_error
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert server.client.get("/paw/v1/functions", headers=image).status_code == 403


def test_a_token_is_asked_of_all_but_the_page_and_health(base: Path) -> None:
    store_functions(base)
    with http_server(token=TOKEN) as server:
        bearer = server.client.headers.pop("Authorization")
        for path in ("/health", "/workbench/", "/"):
            assert server.client.get(path).status_code in (200, 307)
        paths = ["/metrics", "/openapi.json", "/v1/models", "/paw/v1/functions", "/nothing"]
        paths += ["/health/", "//health", "/workbench/../metrics", "/api/v1/programs?mine=true"]
        for path in paths:
            answer = server.send(head(f"GET {path}"))
            assert status_of(answer) in (401, 404), path
            assert b"paw_start" not in answer
        wrong = [{"X-API-Key": "x"}, {"Authorization": f"Basic {TOKEN}"}, {"X-API-Key": "é"}]
        for headers in (*wrong, {"Authorization": "Bearer"}, {"X-API-Key": TOKEN[:-1]}):
            encoded = {name: value.encode() for name, value in headers.items()}
            assert server.client.get("/v1/models", headers=encoded).status_code == 401
        for headers in ({"X-API-Key": TOKEN}, {"Authorization": bearer}):
            assert server.client.get("/v1/models", headers=headers).status_code == 200
        refused = server.client.get("/v1/models").json()["error"]
        assert (refused["type"], refused["code"]) == ("authentication_error", "unauthorized")


@pytest.mark.parametrize(
    "path",
    [
        "/paw/v1/run/../../etc/passwd",
        "/paw/v1/run/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/paw/v1/run//etc/passwd",
        "/paw/v1/run/words%00",
        "/paw/v1/run/words@v1%2F..%2Fv1.paw",
        "/paw/v1/run/v1.paw",
        "/paw/v1/run/org%2Fname%2Ffile.paw",
        "/paw/v1/run/.%2Fwords",
        "/paw/v1/run/words@v0",
        "/paw/v1/run/" + "a" * 5000,
    ],
)
def test_a_reference_reaches_no_file(server: Served, path: str, base: Path) -> None:
    body = b'{"input": "x"}'
    answer = server.send(head(f"POST {path}", f"Content-Length: {len(body)}") + body)
    assert status_of(answer) in (404, 405)
    assert b"root:" not in answer


def test_a_file_that_is_a_program_is_named_by_no_route(server: Served, tmp_path: Path) -> None:
    """Of another folder, with cases of its own: here all of it could be read, run and tuned."""
    path = tmp_path / "mine.paw"
    shutil.copy(store.find("me/topic"), path)
    meta = dict(formats.load(path).meta) | {"cases": [{"input": "disk", "output": "disk"}]}
    formats.replace_meta(path, meta, path)
    kept_cases.add("me/topic", kept_cases.read(str(path)))
    call, chat = {"input": "x"}, {"messages": [{"role": "user", "content": "x"}]}
    own = ("run", call), ("decide", call), ("map", call), ("test", {}), ("tune", {})
    for name in (str(path), str(path.with_suffix(""))):
        asked = [("POST", f"/paw/v1/{what}/{quote(name, safe='')}", body) for what, body in own]
        for escaped in (quote(name, safe=""), name.lstrip("/")):
            asked += [
                ("GET", f"/paw/v1/cases/{escaped}", None),
                ("POST", f"/paw/v1/cases/{escaped}", call | {"output": "disk"}),
                ("DELETE", f"/paw/v1/cases/{escaped}?number=1", None),
                ("GET", f"/paw/v1/functions/{escaped}", None),
                ("POST", f"/paw/v1/compare/{escaped}", {"with": "me/topic"}),
                ("GET", f"/v1/models/{escaped}", None),
                ("GET", f"/api/v1/programs/resolve/{escaped}", None),
                ("GET", f"/api/v1/programs/{escaped}/download", None),
                ("PATCH", f"/api/v1/programs/{escaped}", {"name": "mine"}),
            ]
        asked += [
            ("POST", "/paw/v1/compare/me/topic", {"with": name}),
            ("POST", "/v1/chat/completions", chat | {"model": name}),
            ("POST", "/v1/completions", {"prompt": "x", "model": name}),
            ("POST", "/api/v1/infer", call | {"program_id": name}),
        ]
        for method, target, body in asked:
            answer = server.client.request(method, target, json=body)
            assert answer.status_code in (400, 404), (method, target, answer.text)
    assert jobs.entries() == []
    assert formats.load(path).meta == meta


def test_a_body_that_is_too_large_is_refused_before_and_while_it_comes(base: Path) -> None:
    store_functions(base)
    with http_server(limits=Limits(body_bytes=1000)) as server:
        assert status_of(server.send(head(f"POST {RUN}", "Content-Length: 1001"))) == 413
        assert status_of(server.send(head(f"POST {RUN}", f"Content-Length: {'9' * 5000}"))) == 400
        with server.connect() as connection:
            connection.sendall(head(f"POST {RUN}", "Transfer-Encoding: chunked", close=False))
            for _ in range(30):
                connection.sendall(b"64\r\n" + b"x" * 100 + b"\r\n")
            assert status_of(connection.recv(1000)) == 413
        assert server.client.post(RUN, content=b'{"input": "' + b"x" * 900 + b'"}').is_success


def test_bodies_held_at_once_are_bounded_together(base: Path) -> None:
    store_functions(base)
    with http_server(limits=Limits(body_bytes=1000, held_bytes=2500)) as server:
        held = []
        for _ in range(3):
            held.append(server.connect())
            held[-1].sendall(head(f"POST {RUN}", "Content-Length: 999") + b"x" * 900)
        answers = [connection for connection in held if _answered(connection)]
        assert len(answers) == 1
        assert status_of(answers[0].recv(1000)) == 429
        for connection in held:
            connection.close()
        assert server.post(RUN, {"input": "x", "options": {"max_tokens": 1}}).is_success


def _answered(connection: socket.socket) -> bool:
    """Whether something comes within half a second."""
    return bool(select.select([connection], [], [], 0.5)[0])


def test_a_client_is_slowed_down_and_told_when_to_come_back() -> None:
    with http_server(limits=Limits(rate=1, burst=5)) as server:
        answers = [server.client.get("/health")]
        while answers[-1].status_code == 200 and len(answers) < 200:
            answers.append(server.client.get("/health"))
        assert len(answers) > 5
        assert answers[-1].status_code == 429
        assert answers[-1].headers["retry-after"] == "1"
        time.sleep(1.1)
        assert server.client.get("/health").status_code == 200


def test_calls_at_once_are_bounded(base: Path) -> None:
    store_functions(base)
    body = {"input": "x", "options": LONG}
    with http_server(limits=Limits(calls=2)) as server, ThreadPoolExecutor(2) as pool:
        gone = threading.Event()

        def call() -> None:
            with server.client.stream("POST", RUN, json=body | {"stream": True}):
                assert gone.wait(30)

        calls = [pool.submit(call) for _ in range(2)]
        while server.number("paw_calls_in_flight") < 2:
            time.sleep(0.01)
        refused = server.post(RUN, body)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert server.client.get("/paw/v1/functions").status_code == 200
        gone.set()
        for done in calls:
            done.result()
        while server.number("paw_calls_in_flight"):
            time.sleep(0.01)
        assert server.post(RUN, {"input": "x", "options": {"max_tokens": 1}}).is_success


def test_bodies_being_mapped_leave_room_for_calls(base: Path) -> None:
    store_functions(base)
    limits = Limits(maps=2)
    with http_server(limits=limits) as server:
        silent = [server.connect() for _ in range(3)]
        for connection in silent:
            connection.sendall(head("POST /paw/v1/map/words", "Content-Length: 1000"))
        refused = [connection for connection in silent if _answered(connection)]
        assert [status_of(connection.recv(1000)) for connection in refused] == [429]
        assert server.post(RUN, {"input": "x", "options": {"max_tokens": 1}}).is_success
        for connection in silent:
            connection.close()


def test_a_gigabyte_is_refused_in_bounded_memory(base: Path) -> None:
    """Sent whole: with its length, in chunks, and as a line of a map that never ends."""
    store_functions(base)
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b"x" * (1 << 20))
    with http_process() as (server, process):
        path = Path(f"/proc/{process.pid}/status")
        if not path.exists():
            pytest.skip("the system does not tell a process's peak memory in /proc")
        assert server.post(RUN, {"input": "x", "options": {"max_tokens": 1}}).is_success
        before = _peak_bytes(path)
        for target in (RUN, "/v1/chat/completions", "/api/v1/infer", "/paw/v1/map/words"):
            assert _send_gigabyte(server, target, "Transfer-Encoding: chunked", chunk) in (413, 400)
        assert _send_gigabyte(server, RUN, f"Content-Length: {1 << 30}", chunk) == 413
        assert _peak_bytes(path) - before < 64 << 20
        assert server.post(RUN, {"input": "x", "options": {"max_tokens": 1}}).is_success


def _send_gigabyte(server: Served, target: str, framing: str, chunk: bytes) -> int:
    """Send as much of 1 GiB as is taken; return the status of what is answered."""
    with server.connect() as connection:
        connection.sendall(head(f"POST {target}", framing, close=False))
        with suppress(OSError):  # it has heard enough
            for _ in range(1 << 10):
                connection.sendall(chunk)
        return status_of(connection.recv(1000))


def _peak_bytes(status: Path) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def test_beyond_loopback_it_does_not_start_without_a_token(tmp_path: Path) -> None:
    short = tmp_path / "token"
    short.write_text("secret\n")
    for words, told in (
        ((), "needs a token"),
        (
            ("--token-file", tmp_path / "nothing"),
            f"cannot read the token in {tmp_path}/nothing: No such file or directory\n",
        ),
        (("--token-file", short), "has 6 characters"),
    ):
        done = paw("serve", "--host", "0.0.0.0", "--port", 0, *words)
        assert done.returncode == 1
        assert told in done.stderr
        assert "hint:" in done.stderr or "cannot read" in told


def test_a_port_that_is_taken_is_said_so() -> None:
    with http_server() as server:
        done = paw("serve", "--port", server.port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot listen at 127.0.0.1, port {server.port}: ")


def test_other_machines_ask_by_any_address_and_with_the_token(base: Path, tmp_path: Path) -> None:
    store_functions(base)
    environment = settings.as_set() | {"PAW_SERVE_TOKEN": TOKEN, "PATH": ""}
    with http_process("--host", "0.0.0.0", "--allow-host", "mac.lan", env=environment) as (
        server,
        _,
    ):
        key = f"X-API-Key: {TOKEN}"
        for host in ("10.1.2.3:80", "[fe80::1]", "mac.lan", "localhost"):
            assert status_of(server.send(head("GET /v1/models", key, host=host))) == 200
            assert status_of(server.send(head("GET /v1/models", host=host))) == 401
        assert status_of(server.send(head("GET /v1/models", key, host="evil.example"))) == 421
        page = server.client.get("/v1/models", headers={"Origin": "http://evil.example"})
        assert page.status_code == 403
        assert json.loads(server.client.get("/health").content)["status"] == "ok"
