"""A Hugging Face hub of the tests' own, on loopback, and a small program to put there.

It answers what the real client asks, and keeps a log of it: (method, path, headers). At the same
address it is a PAW service.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from paw_mlx import formats
from paw_mlx.adapter import Adapter, Lora, Matrix, Site
from paw_mlx.program import Program, Template

COMMIT = "c0ffee" * 6 + "c0ff"
_LARGE = (".safetensors", ".gguf", ".paw", ".pt", ".bin")  # kept in Git LFS
_SERVICE = "/api/v1/programs/"
_ROUTE = re.compile(
    r"(?P<api>/api)?(?P<kind>/models|/datasets)?/(?P<repo>[^/]+/[^/]+)"
    r"/(?P<what>revision|tree|resolve)/(?P<revision>[^/]+)(?:/(?P<file>.+))?"
)


def make_program(path: Path, seed: int = 0) -> Path:
    """Save a sound program with one small site; another seed, another program."""
    rng = np.random.default_rng(seed)
    A, B = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 576), (576, 4)))
    lora = Lora(Matrix.from_array(A), Matrix.from_array(B), 1.0)
    template = Template("Say yes.\n", "\n")
    adapter = Adapter({Site(0, "q_proj"): lora})
    path.parent.mkdir(parents=True, exist_ok=True)
    formats.save(
        Program(template, adapter, "HuggingFaceTB/SmolLM2-135M-Instruct"), path, dtype=None
    )
    return path


@dataclass
class Hub:
    """What the server holds, how it misbehaves, and what it was asked."""

    repos: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    datasets: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    programs: dict[str, bytes] = field(default_factory=dict)  # the PAW service's, by slug
    gated: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)  # files whose connection breaks midway
    damaged: set[str] = field(default_factory=set)  # files that come with a bit turned over
    plain_tags: bool = False  # ETags as some mirrors have them: SHA-1 of the bytes alone
    log: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    url: str = ""

    def asked(self, pattern: str = "*") -> list[str]:
        """The paths that were asked for, as many times as they were."""
        return [path for _, path, _ in self.log if fnmatch(path, pattern)]


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Serve HTTP on loopback, every request by `answer`; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *args: Any) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: Any) -> None:
            """A client that was killed is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving_hub(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` as huggingface_hub's client expects it."""
    lock = threading.Lock()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.split("?")[0]
        with lock:
            headers = {name.lower(): value for name, value in handler.headers.items()}
            hub.log.append((handler.command, path, headers))
        if path.startswith(_SERVICE):
            _serve_program(handler, hub, path.removeprefix(_SERVICE))
            return
        match = _ROUTE.fullmatch(path)
        kind = "datasets" if match and match["kind"] == "/datasets" else "repos"
        files = getattr(hub, kind).get(match["repo"]) if match else None
        if match is None or files is None:
            send(handler, 404, headers={"X-Error-Code": "RepoNotFound"})
        elif match["repo"] in hub.gated and "Authorization" not in handler.headers:
            send(handler, 403, headers={"X-Error-Code": "GatedRepo"})
        elif match["revision"] not in ("main", "v1.0", COMMIT):
            send(handler, 404, headers={"X-Error-Code": "RevisionNotFound"})
        elif match["what"] == "revision":
            siblings = [{"rfilename": name} for name in files]
            send_json(handler, {"id": match["repo"], "sha": COMMIT, "siblings": siblings})
        elif match["what"] == "tree":
            send_json(handler, [_tree_row(name, data) for name, data in files.items()])
        else:
            _send_file(handler, hub, str(match["file"]), files)

    with serving(answer) as hub.url:
        yield hub


def _serve_program(handler: BaseHTTPRequestHandler, hub: Hub, path: str) -> None:
    ids = {f"{number:016x}": slug for number, slug in enumerate(hub.programs)}
    resolved = {f"resolve/{slug}": {"program_id": id} for id, slug in ids.items()}
    id = path.removesuffix("/download")
    if path in resolved:
        send_json(handler, resolved[path])
    elif id in ids:
        send(handler, 200, hub.programs[ids[id]])
    else:
        send(handler, 404)


def _tree_row(name: str, data: bytes) -> dict[str, Any]:
    row = {"type": "file", "path": name, "size": len(data), "oid": _git_hash(data)}
    if not name.endswith(_LARGE):
        return row
    return row | {"lfs": {"oid": _etag(name, data), "size": len(data), "pointerSize": 130}}


def _etag(name: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if name.endswith(_LARGE) else _git_hash(data)


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _send_file(
    handler: BaseHTTPRequestHandler, hub: Hub, name: str, files: Mapping[str, bytes]
) -> None:
    if name not in files:
        send(handler, 404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        return
    data = files[name]
    etag = hashlib.sha1(data).hexdigest() if hub.plain_tags else _etag(name, data)
    headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
    if name in hub.damaged:
        data = bytes([data[0] ^ 1]) + data[1:]
    start = int(handler.headers.get("Range", "bytes=0-")[len("bytes=") :].split("-")[0])
    if name in hub.cut and handler.command == "GET":
        if start:
            send(handler, 503)  # the client tries to resume, and the hub stays broken
            return
        send(handler, 200, data, headers, cut=len(data) // 2)
        return
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    send(handler, 206 if start else 200, data[start:], headers)


def send_json(handler: BaseHTTPRequestHandler, value: Any) -> None:
    send(handler, 200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    cut: int | None = None,
) -> None:
    """Answer; with `cut`, promise the whole body and hang up after so many bytes."""
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body[:cut])
    if cut is not None:
        handler.close_connection = True


def drip(handler: BaseHTTPRequestHandler, begin: bytes) -> None:
    """Answer with these bytes, and one now and then, for 20 s or until nobody listens."""
    handler.close_connection = True
    handler.wfile.write(begin)
    for _ in range(400):
        time.sleep(0.05)
        handler.wfile.write(b"1")
