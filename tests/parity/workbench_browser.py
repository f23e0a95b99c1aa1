"""A server with functions, and a browser that looks at its workbench: fixtures of its tests."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import playwright.sync_api as playwright
import pytest
import tiny
import toy_compilers as toy
import uvicorn
from playwright.sync_api import Browser, Page, expect

import paw_mlx as paw
from paw_mlx import jobs, kept_cases, store
from paw_mlx.adapter import Adapter
from paw_mlx.cases import Case
from paw_mlx.serving.compiles import Compiles
from paw_mlx.serving.http.app import make_app
from paw_mlx.serving.http.state import State
from paw_mlx.serving.residents import Residents

__all__ = [
    "HOSTILE", "INPUT", "IS_REAL", "NARROW", "ROOT", "Server", "base", "browser", "compiler", "go",
    "homes", "odd", "page", "server", "serving", "try_input",
]  # fmt: skip

ROOT = Path(__file__).parents[2]
BASES = ROOT / ".paw" / "bases"  # what `make demo` fetches
IS_REAL = (BASES / "smollm2-135m").exists()
HOSTILE = '<img src=x onerror="window.hit = 1"><script>window.hit = 2</script>'
INPUT = "Subject: question | Is it normal that the paint fridge smells of smoke? I am alone here."
NARROW = {"viewport": {"width": 360, "height": 740}}
expect.set_options(timeout=60_000)


class Server(NamedTuple):
    """A server: its address, its state."""

    url: str
    state: State

    def fn(self, reference: str) -> paw.Function:
        """The function that it runs."""
        return self.state.load(reference)


# --- a server, a browser -----------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home for all: the server's."""
    home = tmp_path_factory.mktemp("home") / "paw-mlx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAW_MLX_HOME", str(home))
        patch.setenv("HF_HOME", str(home / "huggingface"))
        patch.setenv("PAW_OFFLINE", "1")
        home.mkdir()
        if IS_REAL:
            (home / "bases").symlink_to(BASES)
        yield home


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The tiny base, where there is no real one."""
    return None if IS_REAL else toy.write_base(tmp_path_factory.mktemp("base") / "base")


class OnBase(Residents):
    """Functions that run on one base, whatever they were made for."""

    def __init__(self, base: Path | None) -> None:
        super().__init__()
        self._path = base and str(base)

    def function(self, program: Any, **keywords: Any) -> paw.Function:
        return super().function(program, **{"interpreter": self._path} | keywords)


@pytest.fixture(scope="module")
def compiler(base: Path | None, tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """A toy compiler for the tiny base; with the real one it is the embedded."""
    if base is None:
        return None
    out = tmp_path_factory.mktemp("compiler") / "out"
    toy.train(base, out)
    return str(out)


@pytest.fixture(scope="module")
def server(homes: Path, base: Path | None, compiler: str | None) -> Iterator[Server]:
    fill_store()
    interpreter = base and str(base)
    state = State(OnBase(base), Compiles(compiler, interpreter=interpreter, offline=True))
    with serving(state) as url:
        yield Server(url, state)
    for job in jobs.entries():
        if job.state == "running":
            jobs.stop(job.id)
    state.compiles.close()
    state.functions.close()  # type: ignore[attr-defined]


class serving:  # noqa: N801
    """A server of a state in a thread; gives its address."""

    def __init__(self, state: State) -> None:
        config = uvicorn.Config(make_app(state), port=0, log_config=None)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/workbench/"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


def fill_store() -> None:
    """Store what is looked at: labels in two versions, text, and what would be markup."""
    labels = paw.Labels(("immediate", "wait"))
    if IS_REAL:
        mail = paw.load(ROOT / "examples/email-triage/program.paw")
        text = paw.load(ROOT / "examples/json-repair/program.paw")
        lines = (ROOT / "examples/email-triage/test.jsonl").read_text().splitlines()[:24]
        cases = [Case(**json.loads(line)) for line in lines]
        profile = None
    else:
        mail, text = tiny.program("llama", 1), tiny.program("llama", 2)
        cases = [Case(f"the server {n} is down", labels.labels[n % 2]) for n in range(12)]
        profile = tiny.profile("llama")
    keep = {"profile": profile}
    assert mail.adapter
    weak = {
        site: replace(lora, alpha=0.4 * lora.alpha) for site, lora in mail.adapter.sites.items()
    }
    store.add(replace(mail, adapter=Adapter(weak), output=labels), "mail", **keep)
    store.add(replace(mail, output=labels), "mail", **keep)
    store.add(text, "json-repair", **keep)
    kept_cases.add("mail", cases)


@pytest.fixture
def odd(server: Server) -> Iterator[paw.Program]:
    """A stored program, `odd`, whose spec and labels would be markup."""
    labels = paw.Labels((HOSTILE, "it's <b>bold</b>"))
    found = replace(paw.load(store.find("mail")), output=labels, spec=HOSTILE)
    store.add(found, "odd", profile=None if IS_REAL else tiny.profile("llama"))
    yield found
    store.remove("odd")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium: the system's, else Playwright's own."""
    with playwright.sync_playwright() as started:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        if not found and not Path(started.chromium.executable_path).exists():
            pytest.skip("there is no Chromium")
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that hears of every error, and of every request to elsewhere; there must be none."""
    options: dict[str, Any] = {
        "viewport": {"width": 1200, "height": 800},
        "reduced_motion": "reduce",
    }
    context = browser.new_context(**options | getattr(request, "param", {}))
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: said.type == "error" and wrong.append(said.text))
    host = server.url.split("/")[2]
    opened.on("request", lambda asked: host in asked.url or wrong.append(asked.url))
    opened.goto(server.url)
    yield opened
    assert opened.evaluate("window.hit") is None
    context.close()
    refused = "the server responded with a status of 4"  # what a test has asked for
    assert [each for each in wrong if refused not in each] == []


def go(page: Page, view: str) -> None:
    """Go to a view, and wait until it stands."""
    page.evaluate("view => { location.hash = view }", view)
    page.wait_for_function("view => location.hash === view", arg=view)
    page.wait_for_function("() => document.activeElement?.tagName === 'H1'")
    page.wait_for_load_state("networkidle")


def try_input(page: Page, text: str) -> None:
    """Write an input and run it, by keys."""
    page.get_by_label("Input", exact=True).fill(text)
    page.keyboard.press("Control+Enter")
    page.locator(".result .facts").wait_for()
