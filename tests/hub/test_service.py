"""Programs come from a PAW service on loopback: bounded, checked, and kept in the store."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hub_server import drip, send, send_json, serving

from paw_mlx import hub, service, store
from paw_mlx.errors import FormatError, HubError, NotFound, OfflineError, OptionError

ID = "0123456789abcdef"
Answer = Callable[[BaseHTTPRequestHandler], None]


class Service:
    """Slugs and downloads; `before` are answers given, one by one, ahead of a download's."""

    def __init__(self, data: bytes) -> None:
        self.data, self.before = data, list[Answer]()
        self.log: list[tuple[str, str | None]] = []
        self.program_id: object = ID

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.log.append((handler.path, handler.headers.get("X-API-Key")))
        if handler.path.startswith("/api/v1/programs/resolve/"):
            known = handler.path.removeprefix("/api/v1/programs/resolve/").startswith("me/triage")
            send_json(handler, {"program_id": self.program_id}) if known else send(handler, 404)
        elif self.before:
            self.before.pop(0)(handler)
        elif handler.path == f"/api/v1/programs/{ID}/download":
            send(handler, 200, self.data)
        else:
            send(handler, 404)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.log]


@pytest.fixture
def paw(program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    paw = Service(program.read_bytes())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(paw) as url:
        monkeypatch.setenv("PAW_API_URL", url)
        yield paw


def test_a_slug_is_resolved_once_and_then_stored(
    paw: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hub.resolve_program("me/triage")
    assert path == store.find("me/triage")
    assert path.read_bytes() == paw.data
    paw.log.clear()
    assert hub.resolve_program("me/triage") == path
    assert hub.resolve_program("me/triage", offline=True) == path
    assert paw.log == []


def test_a_version_and_an_id_keep_their_names(paw: Service) -> None:
    assert hub.resolve_program("me/triage@v3") == store.find("me/triage@v3")
    assert paw.paths[0].endswith("/resolve/me/triage%40v3")
    assert hub.resolve_program(ID) == store.find(ID)
    assert len(paw.log) == 3


def test_a_program_in_the_making_is_waited_for(paw: Service) -> None:
    paw.before = [lambda h: send(h, 202, headers={"Retry-After": "0"})] * 2
    assert hub.resolve_program("me/triage").read_bytes() == paw.data
    assert len([path for path in paw.paths if path.endswith("/download")]) == 3


def test_waiting_has_an_end(paw: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "DEADLINE_S", 20.0)
    paw.before = [
        lambda h: send(h, 202, headers={"Retry-After": "0"}),
        lambda h: send(h, 202, headers={"Retry-After": "9" * 5000}),
    ]
    with pytest.raises(HubError, match="not ready after 20 s"):
        hub.resolve_program("me/triage")
    assert paw.before == []


@pytest.mark.parametrize("reference", ["me/triage", ID], ids=["resolve", "download"])
@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["head", "body", "chunk"],
)
def test_what_drips_is_given_up(
    monkeypatch: pytest.MonkeyPatch, reference: str, begin: bytes
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(service, "DEADLINE_S", 0.3)
    with serving(lambda handler: drip(handler, begin)) as url:
        monkeypatch.setenv("PAW_API_URL", url)
        with pytest.raises(HubError, match=r"cannot fetch .*: no whole answer within 0.3 s"):
            hub.resolve_program(reference)
    assert store.entries() == []


@pytest.mark.slow
def test_what_is_slow_and_moves_arrives(paw: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ANSWER_S", 1.0)

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, paw.data, cut=0)
        size = len(paw.data) // 15
        for start in range(0, len(paw.data), size):
            time.sleep(0.1)
            handler.wfile.write(paw.data[start : start + size])

    paw.before = [slowly]
    assert hub.resolve_program("me/triage").read_bytes() == paw.data


@pytest.mark.parametrize("size", [b"-1", b"-5"])
def test_a_chunk_without_a_size_is_not_read(paw: Service, size: bytes) -> None:
    begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n"
    paw.before = [lambda handler: drip(handler, begin)]
    with pytest.raises(HubError, match="does not say how long its parts are"):
        hub.resolve_program("me/triage")


def test_of_a_redirect_nothing_but_its_place_is_taken(paw: Service) -> None:
    begin = b"HTTP/1.1 302 Found\r\nLocation: /file\r\nContent-Length: 1000000\r\n\r\n"
    paw.before = [lambda h: drip(h, begin), lambda h: send(h, 200, paw.data)]
    assert hub.resolve_program("me/triage").read_bytes() == paw.data
    assert paw.paths[-1] == "/file"


def test_the_key_goes_to_the_service_and_no_further(
    paw: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAW_API_KEY", "secret")
    elsewhere = Service(paw.data)
    elsewhere.before = [lambda h: send(h, 200, paw.data)]
    with serving(elsewhere) as url:
        paw.before = [lambda h: send(h, 302, headers={"Location": f"{url}/file"})]
        assert hub.resolve_program("me/triage").read_bytes() == paw.data
    assert [key for _, key in paw.log] == ["secret", "secret"]
    assert elsewhere.log == [("/file", None)]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("file:///etc/passwd", "Redirection"),
        ("http://example.org/x", "redirects to"),
        ("ftp://h/x", "redirects to"),
        ("http://[x", "Invalid IPv6"),
    ],
)
def test_a_redirect_to_no_safe_place_is_refused(paw: Service, where: str, said: str) -> None:
    paw.before = [lambda h: send(h, 302, headers={"Location": where})]
    with pytest.raises(HubError, match=said):
        hub.resolve_program("me/triage")
    assert store.entries() == []


@pytest.mark.parametrize(
    ("asked", "to", "may"),
    [
        ("https://example.org", "https://example.com", True),
        ("https://example.org", "http://127.0.0.1:8080/", False),
        ("https://example.org", "https://localhost/", False),
        ("https://example.org", "http://[::1]/", False),
        ("https://example.org", "http://example.org/", False),
        ("http://localhost:80", "http://127.0.0.1:8080/", True),
        ("http://localhost:80", "https://example.org", True),
    ],
)
def test_to_this_machine_leads_this_machine_alone(asked: str, to: str, may: bool) -> None:
    assert service.may_lead(asked, to) == may


@pytest.mark.parametrize("url", ["http://example.org", "file:///etc", "h.org", "http://[x"])
def test_an_address_that_is_not_safe_is_refused(
    paw: Service, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PAW_API_URL", url)
    with pytest.raises(OptionError, match="no address"):
        hub.resolve_program("me/triage")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda h: send(h, 200, b"PK\x03\x04 and nothing"), FormatError),
        (lambda h: send(h, 200, b""), FormatError),
        (lambda h: send(h, 200, bytes(1 << 20), cut=1 << 19), HubError),
        (lambda h: send(h, 200, bytes(3 << 20)), HubError),
        (lambda h: send(h, 500), HubError),
        (lambda h: send(h, 401), HubError),
        (lambda h: send(h, 404), NotFound),
    ],
    ids=["damaged", "empty", "cut", "too long", "down", "refused", "gone"],
)
def test_what_does_not_arrive_whole_is_not_stored(
    paw: Service, monkeypatch: pytest.MonkeyPatch, answer: Answer, error: type[Exception]
) -> None:
    monkeypatch.setattr(service, "MAX_BYTES", 2 << 20)
    paw.before = [answer]
    with pytest.raises(error) as caught:
        hub.resolve_program("me/triage")
    assert "\n" not in str(caught.value)
    assert store.entries() == []
    assert hub.resolve_program("me/triage").read_bytes() == paw.data


def test_a_full_disk_is_the_disks_fault_and_not_the_services(
    paw: Service, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start(
        "import resource, signal; from paw_mlx import errors, hub;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: hub.resolve_program('me/triage')\n"
        "except errors.DiskError as error: print(error)"
    )
    said = process.communicate()[0]
    assert said.startswith("cannot write ")
    assert said.endswith(": File too large\n")
    assert store.entries() == []


@pytest.mark.parametrize("program_id", ["../../x", "", None, 7, "ABC", "0" * 65])
def test_a_malformed_id_is_not_followed(paw: Service, program_id: object) -> None:
    paw.program_id = program_id
    with pytest.raises(HubError, match="program_id"):
        hub.resolve_program("me/triage")
    assert len(paw.log) == 1


def test_an_answer_that_nobody_can_read_is_one_sentence(
    paw: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server.json.dumps", lambda value: "[" * 100_000)
    with pytest.raises(HubError, match="answered without a program_id"):
        hub.resolve_program("me/triage")


def test_an_unknown_slug_is_not_found(paw: Service) -> None:
    with pytest.raises(NotFound, match="me/nothing"):
        hub.resolve_program("me/nothing")


def test_offline_the_service_is_not_asked(paw: Service) -> None:
    with pytest.raises(OfflineError, match="me/triage"):
        hub.resolve_program("me/triage", offline=True)
    assert paw.log == []


def test_a_service_that_is_down_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAW_API_URL", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"127\.0\.0\.1:9") as caught:
        hub.resolve_program("me/triage")
    assert "\n" not in str(caught.value)
