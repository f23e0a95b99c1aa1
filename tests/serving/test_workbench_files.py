"""The workbench's files: a fixed list, asked for at every load, and nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from starlette.applications import Starlette
from starlette.testclient import TestClient

from paw_mlx.serving.http import workbench

FOLDER = Path(workbench.__file__).parent / "workbench"
FILES = sorted(path.name for path in FOLDER.iterdir())
SCRIPTS = sorted(FOLDER.glob("*.js"))
POLICY = {
    "default-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "object-src 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
}


@pytest.fixture(scope="module")
def client() -> TestClient:
    """A client of the workbench alone."""
    return TestClient(Starlette(routes=workbench.routes(None)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_as_what_it_is(name: str, client: TestClient) -> None:
    answer = client.get(f"/workbench/{name}")
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
    assert answer.status_code == 200
    assert answer.content == (FOLDER / name).read_bytes()
    kind = answer.headers["content-type"].split(";")[0]
    assert kind == kinds.get(Path(name).suffix, "image/svg+xml")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert {*answer.headers["content-security-policy"].split("; ")} == POLICY
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_folder_is_its_page(client: TestClient) -> None:
    page = (FOLDER / "index.html").read_bytes()
    assert client.get("/workbench/").content == page
    assert client.get("/workbench").content == page
    head = client.head("/workbench/")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "../workbench.py", "..%2fworkbench.py", "%2e%2e/workbench.py", "..%5cworkbench.py",
        "%2fetc/passwd", "style.css%00", "STYLE.CSS", "..", "%00", "style.css;.js", "x/style.css",
        "index.html/../../workbench.py", ".style.css", pytest.param("a" * 10_000, id="long"),
    ],
)  # fmt: skip
def test_no_path_leads_out(path: str, client: TestClient) -> None:
    answer = client.get(f"/workbench/{path}")
    assert answer.status_code == 404, answer.content[:80]


def test_a_file_is_sent_once(client: TestClient) -> None:
    first = client.get("/workbench/app.js")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"  # asked for at every load
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/workbench/app.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert "content-security-policy" in again.headers
    other = client.get("/workbench/style.css", headers={"If-None-Match": tag})
    assert other.status_code == 200
    assert other.headers["etag"] != tag


def test_nothing_is_written_to_it(client: TestClient) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, "/workbench/app.js").status_code == 405


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_make_no_markup_of_text(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
    assert not re.search(ways, text)
    assert not re.search(r"style: |setAttribute\(\"style", text)  # the policy would refuse it


def test_all_that_is_named_is_there() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        named = re.findall(r'(?:from|src=|href=) ?"(?:\./)?([^"#/][^"]*)"', text)
        assert set(named) <= set(FILES), path.name
        away = re.findall(r"(?:https?:)?//[a-z][\w.-]+", re.sub(r"^ *//.*", "", text, flags=re.M))
        assert set(away) <= {"http://www.w3.org"}, path.name  # the name of SVG's namespace
