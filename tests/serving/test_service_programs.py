"""The PAW service on stored programs: immutable ids, whole files, and no way out of the store."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from asker import Asker
from http_servers import http_server
from hub_server import make_program

from paw_mlx import formats, settings, store, wheels
from paw_mlx.runtimes import RUNTIMES, Runtime


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return make_program(tmp_path / "one.paw")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_program(tmp_path / "two.paw", seed=1)


@pytest.fixture
def ask() -> Iterator[Asker]:
    with http_server() as served:
        yield Asker(served)


def id_of(ask: Asker, reference: str) -> str:
    status, answer = ask("GET", f"/programs/resolve/{reference}")
    assert status == 200, answer
    return str(answer["program_id"])


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_slug_is_resolved_with_its_slash_raw_or_escaped(ask: Asker, program: Path) -> None:
    store.add(program, "me/triage")
    found = {
        id_of(ask, how) for how in ("me/triage", "me%2Ftriage", "me/triage%40v1", "me/triage@v1")
    }
    assert len(found) == 1
    assert len(one := found.pop()) == 32
    assert one == one.lower()
    assert int(one, 16)


def test_what_is_downloaded_carries_the_id_asked_and_the_stored_program(
    ask: Asker, program: Path
) -> None:
    store.add(program, "triage")
    program_id = id_of(ask, "triage")
    answer = ask.raw("GET", f"/programs/{program_id}/download")
    assert (answer.status_code, answer.history) == (200, [])
    assert int(answer.headers["content-length"]) == len(answer.content)
    sent, kept = members(answer.content), members(program.read_bytes())
    assert json.loads(sent["meta.json"])["program_id"] == program_id
    assert {n: d for n, d in sent.items() if n != "meta.json"} == {
        n: d for n, d in kept.items() if n != "meta.json"
    }
    assert answer.content == ask.raw("GET", f"/programs/{program_id}/download").content
    assert [p.name for p in settings.cache_dir().iterdir() if "sending" in p.name] == []


def test_other_bytes_have_another_id_though_the_file_says_the_same(
    ask: Asker, program: Path, tmp_path: Path
) -> None:
    store.add(program, "triage")
    before = id_of(ask, "triage")
    meta = dict(formats.load(program).meta)
    formats.replace_meta(program, meta | {"spec": "another", "program_id": meta["program_id"]})
    store.add(program, "triage")
    assert id_of(ask, "triage") != before == id_of(ask, "triage@v1")
    # and with the file replaced under its path, the old id is gone, not the new bytes under it
    formats.replace_meta(store.find("triage@v1"), meta | {"spec": "a third"})
    for path in (f"/programs/{before}/download", f"/programs/{before}"):
        status, answer = ask("GET", path)
        assert (status, "not found" in answer["detail"]) == (404, True)
    assert ask("GET", "/programs/triage/download")[0] == 404  # by its id alone


def test_one_file_under_two_names_is_one_id_and_stays_when_a_name_goes(
    ask: Asker, program: Path
) -> None:
    store.add(program, "a")
    store.add(program, "b")
    program_id = id_of(ask, "a")
    assert id_of(ask, "b") == program_id
    assert sorted(ask("GET", f"/programs/{program_id}")[1]["aliases"]) == ["a", "b"]
    store.remove("a")
    assert ask.raw("GET", f"/programs/{program_id}/download").status_code == 200
    store.remove("b")
    assert ask.raw("GET", f"/programs/{program_id}/download").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/programs/{}/download",
        "/programs/resolve/{}",
        "/programs/{}",
        "/programs/{}/versions",
        "/models/files/{}",
        "/models/runtimes/{}",
    ],
)
@pytest.mark.parametrize(
    "reference",
    ["nobody", "0" * 32, "../../etc/passwd", "/etc/passwd", "a\0b", "v1.paw", "triage@v0", ".lock",
     "org/name/program.paw", "~", "x" * 5000, "triage@v999999999"],
)  # fmt: skip
def test_nothing_but_the_store_is_reached(
    ask: Asker, program: Path, path: str, reference: str
) -> None:
    store.add(program, "mail" if path.endswith("versions") else "triage")  # it is a name's
    status, answer = ask("GET", path.format(quote(reference, safe="")))
    assert status == 404
    assert "not found" in answer["detail"].lower() or path.startswith("/models")
    assert set(answer) >= {"error", "message", "detail"}
    assert str(settings.data_dir()) not in json.dumps(answer)


def test_versions_tell_which_one_the_name_means(ask: Asker, program: Path, other: Path) -> None:
    store.add(program, "me/triage")
    store.add(other, "me/triage")
    store.rollback("me/triage")
    status, answer = ask("GET", "/programs/me/triage/versions")
    assert (status, answer["slug"], answer["main_version"]) == (200, "me/triage", 1)
    assert [(v["version"], v["is_main"]) for v in answer["versions"]] == [(2, False), (1, True)]
    assert answer["versions"][1]["program_id"] == id_of(ask, "me/triage")


def test_renaming_moves_the_name_and_leaves_the_id(ask: Asker, program: Path, other: Path) -> None:
    store.add(program, "triage")
    store.add(other, "taken")
    program_id = id_of(ask, "triage")
    assert ask("PATCH", f"/programs/{program_id}", json={"slug": "me/mail"})[0] == 200
    assert id_of(ask, "me/mail") == program_id
    assert ask("GET", "/programs/resolve/triage")[0] == 404
    status, answer = ask("PATCH", "/programs/me/mail", json={"slug": "taken"})
    assert (status, answer["message"]) == (400, "taken is the name of another program already")
    assert ask("PATCH", "/programs/me/mail", json={"slug": "../x"})[0] == 400
    assert ask("PATCH", "/programs/me/mail", json={"slug": ""})[1]["slug"] is None
    assert ask("GET", "/programs/resolve/me/mail")[0] == 404
    assert ask.raw("GET", f"/programs/{program_id}/download").status_code == 200


def test_programs_are_listed_in_pages_the_latest_first(ask: Asker, tmp_path: Path) -> None:
    for number in range(5):
        store.add(make_program(tmp_path / "p.paw", seed=number), f"p{number}")
        path, when = store.find(f"p{number}"), 1_700_000_000 + number
        os.utime(path, (when, when))
    status, answer = ask("GET", "/programs?mine=true&sort=recent&per_page=2&page=2")
    assert (status, answer["total"], answer["page"], answer["per_page"]) == (200, 5, 2, 2)
    assert [row["name"] for row in answer["programs"]] == ["p2", "p1"]
    assert answer["programs"][0]["id"] == id_of(ask, "p2")
    for wrong in ("page=0", "page=-1", "per_page=1000", "page=x", "page=9999999999"):
        assert ask("GET", f"/programs?{wrong}")[0] == 422, wrong


def test_a_program_for_smollm2_names_its_runtime_and_the_server_its_file(
    ask: Asker, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 40
    runtime = Runtime(
        "tiny-q4", "smollm2-135m", "tiny.gguf", len(data), hashlib.sha256(data).hexdigest()
    )
    monkeypatch.setitem(RUNTIMES, "tiny-q4", runtime)
    store.add(program, "triage")
    meta = ask("GET", f"/programs/{id_of(ask, 'triage')}")[1]
    assert meta["runtime_id"] == "smollm2-135m-q4_1"
    manifest = ask("GET", "/models/runtimes/tiny-q4")[1]
    base = manifest["local_sdk"]["base_model"]
    assert manifest["runtime_id"] == "tiny-q4"
    assert (base["size_bytes"], base["sha256"]) == (runtime.bytes, runtime.sha256)
    path = base["url"].removeprefix(ask.url)
    status, answer = ask("GET", path)
    assert (status, answer["hint"]) == (404, "Fetch it here: paw-mlx pull smollm2-135m")
    file = settings.data_dir() / "tiny.gguf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    monkeypatch.setattr(wheels, "installed", lambda name: file)
    assert ask.raw("GET", path).content == data
    part = ask.raw("GET", path, headers={"Range": "bytes=100-355"})
    assert (part.status_code, part.content) == (206, data[100:356])


def test_a_damaged_program_is_one_sentence_and_the_others_are_listed(
    ask: Asker, program: Path, other: Path
) -> None:
    store.add(program, "good")
    store.add(other, "bad")
    store.find("bad").write_bytes(b"PK\3\4 no more")
    status, answer = ask("GET", "/programs")
    assert status == 200
    assert [row["name"] for row in answer["programs"]] == ["good"]
    status, answer = ask("GET", f"/programs/{id_of(ask, 'bad')}/download")
    assert status >= 400
    assert "is not a readable ZIP" in answer["message"] or "was cut short" in answer["message"]
