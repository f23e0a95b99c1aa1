"""The official SDK, unmodified and without llama.cpp, is at home at our PAW service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_servers import http_server

from paw_mlx import formats, hub, settings, store
from paw_mlx.interpreter import Interpreter
from paw_mlx.runner import Options
from paw_mlx.runtimes import RUNTIMES
from paw_mlx.serving.compiles import Compiles

pytest.importorskip("programasweights")

ROOT = Path(__file__).parents[2]
BASES = ROOT / ".paw" / "bases"  # what `make demo` fetches
EXAMPLE = ROOT / "examples" / "email-triage" / "program.paw"
SPEC = "Decide whether a message is about money. Return ONLY one of: money, other"
MAIL = "Please pay the invoice of 300 euros by Friday."
RUNTIME = RUNTIMES["smollm2-135m-q4_1"]

needs_base = pytest.mark.skipif(
    not (BASES / RUNTIME.base).exists(), reason="the base of the examples is not here: make demo"
)


class Sdk:
    """Processes that have the SDK, a cache of their own, and an address."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.cache = url, folder / "sdk-cache"
        self.env = os.environ | {
            "PAW_API_URL": url,
            "PAW_CACHE_DIR": str(self.cache),
            "PAW_QUIET": "1",
            "HOME": str(folder),
            "NO_PROXY": "127.0.0.1",
            "HF_HUB_OFFLINE": "1",
        }

    def __call__(self, code: str) -> Any:
        """Run Python; return what its `answer` is. llama_cpp has to stay away."""
        script = (
            "import sys, json, time\nsys.modules['llama_cpp'] = None\n"
            f"import programasweights as paw\n{code}\nprint(json.dumps(answer))"
        )
        done = self._run([sys.executable, "-c", script])
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def paw(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the SDK's own command."""
        code = "import sys; from programasweights.cli import main; sys.exit(main())"
        return self._run([sys.executable, "-c", code, *words])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=240, env=self.env, check=False
        )


@pytest.fixture
def sdk(tmp_path: Path) -> Iterator[Sdk]:
    if BASES.exists():
        settings.data_dir().mkdir(parents=True)
        (settings.data_dir() / "bases").symlink_to(BASES)
    with http_server(compiles=Compiles(offline=True)) as served:
        yield Sdk(served.url, tmp_path)


@pytest.fixture
def run_here() -> Iterator[Callable[[str, str], str]]:
    """What a stored program says of an input, computed in this process."""
    with Interpreter.load(str(hub.resolve_base(RUNTIME.base, offline=True))) as interpreter:
        yield (
            lambda name, text: interpreter.run(formats.load(store.find(name)), text, Options()).text
        )


@pytest.mark.slow
@needs_base
def test_a_spec_is_compiled_here_and_runs_here_without_llama_cpp(
    sdk: Sdk, run_here: Callable[[str, str], str]
) -> None:
    told = sdk(f"""
fn = paw.compile_and_load({SPEC!r}, slug="me/money", remote=True)
program = paw.compile({SPEC!r}, slug="me/money")
by_slug, by_id = paw.function("me/money", remote=True), paw.function(program, remote=True)
answer = dict(program=vars(program), said=[f({MAIL!r}) for f in (fn, by_slug, by_id)],
              short=fn({MAIL!r}, max_tokens=1, temperature=0.5))
""")
    wanted = run_here("me/money", MAIL)
    assert wanted in ("money", "other")
    assert told["said"] == [wanted] * 3
    program = told["program"]
    assert (program["status"], program["slug"], program["error"]) == ("ready", "me/money", None)
    assert (program["version"], program["version_action"]) == (1, "no_change")
    assert (program["runtime_id"], program["compiler_kind"]) == (RUNTIME.id, "mapper_lora")


@needs_base
def test_a_job_is_polled_and_another_cancelled(sdk: Sdk) -> None:
    told = sdk(f"""
first = paw.compile_async({SPEC!r}, "paw-smollm2-135m", slug="money")
second = paw.compile_async({SPEC!r} + "?", "paw-smollm2-135m")
cancelled = paw.cancel_compile(second["job_id"])
seen = []
while not seen or seen[-1]["status"] in ("queued", "compiling"):
    time.sleep(0.1)
    seen.append(paw.get_compile_status(first["job_id"]))
try:
    paw.cancel_compile(first["job_id"])
except paw.APIError as error:
    late = [error.response.status_code, error.code, error.message]
check = [paw.precheck_compile(s)["cached"] for s in ({SPEC!r}, "Is it about cats or dogs?")]
answer = dict(first=first, cancelled=cancelled, seen=seen, late=late, check=check)
""")
    assert told["first"]["status"] in ("queued", "compiling")
    assert told["cancelled"]["status"] == "cancelled"
    done = told["seen"][-1]
    assert (done["status"], done["percent"], done["slug"]) == ("ready", 100.0, "money")
    assert [s["percent"] for s in told["seen"]] == sorted(s["percent"] for s in told["seen"])
    assert told["late"] == [409, "not_cancellable", "the compile is ready already"]
    assert told["check"] == [True, False]


def test_the_store_is_listed_told_and_renamed(sdk: Sdk) -> None:
    store.add(EXAMPLE, "mail")
    store.add(ROOT / "examples" / "log-triage" / "program.paw", "mail")
    told = sdk("""
answer = [paw.list_programs(), paw.list_versions("mail"), paw.list_compilers()]
""")
    listed, versions, compilers = told
    assert [row["name"] for row in listed["programs"]] == ["mail"]
    assert (versions["main_version"], len(versions["versions"])) == (2, 2)
    assert {"paw-smollm2-135m", "paw-4b-qwen3-0.6b"} <= {one["name"] for one in compilers}
    program_id = versions["versions"][0]["program_id"]
    assert listed["programs"][0]["id"] == program_id
    info = sdk.paw("info", "mail", "--json")
    assert json.loads(info.stdout)["id"] == program_id
    assert "Spec: Decide whether an application log line" in sdk.paw("info", program_id).stdout
    renamed = sdk.paw("rename", "mail", "me/logs")
    assert (renamed.returncode, renamed.stdout) == (0, "Renamed to: me/logs\n")
    assert store.current("me/logs") == 2
    assert sdk.paw("rename", "me/logs", "").stdout == "Slug removed.\n"
    assert sdk.paw("info", "me/logs").returncode == 1
    assert sdk.paw("info", program_id).returncode == 0


@pytest.mark.slow
@needs_base
def test_the_command_of_the_sdk_compiles_and_runs(
    sdk: Sdk, run_here: Callable[[str, str], str]
) -> None:
    made = sdk.paw("--json", "compile", "--spec", SPEC, "--slug", "money", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["status"] == "ready"
    ran = sdk.paw("run", "--program", "money@v1", "--input", MAIL, "--remote", "--json")
    assert json.loads(ran.stdout)["output"] == run_here("money", MAIL)
    short = sdk.paw("compile", "--spec", "too short")
    assert short.returncode != 0
    assert "the spec has 9 characters, and needs at least 10" in short.stderr + short.stdout


@needs_base
def test_an_example_is_downloaded_verified_and_ready_offline(sdk: Sdk) -> None:
    store.add(EXAMPLE, "mail")
    told = sdk("""
events = []
program = paw.prepare_program("mail@v1", progress=events.append)
answer = dict(program=program, ready=paw.is_offline_ready("mail@v1"),
              again=paw.prepare_program("mail@v1", offline=True),
              stages=[[e["stage"], e["status"]] for e in events])
""")
    program = told["program"]
    assert (told["ready"], program["offline_ready"], told["again"]) == (True, True, program)
    assert program["runtime_id"] == RUNTIME.id
    base = Path(program["base_model_path"])
    assert (base.name, base.stat().st_size) == (RUNTIME.file, RUNTIME.bytes)
    folder = Path(program["program_dir"])
    assert folder.name == program["program_id"]
    fetched, ours = formats.load(folder), formats.load(EXAMPLE)
    assert (fetched.template, fetched.spec) == (ours.template, ours.spec)
    assert fetched.digest() == ours.digest()
    assert ["base_model", "downloading"] in told["stages"]


@needs_base
def test_an_example_s_own_file_finds_its_runtime_here(sdk: Sdk) -> None:
    """As `function(Path)` goes about it, until it would ask for llama.cpp."""
    told = sdk(f"""
from pathlib import Path
from programasweights import cache
from programasweights.local_program import import_local_program
folder = import_local_program(Path({str(EXAMPLE)!r}))
meta = json.loads((folder / "meta.json").read_text())
manifest = cache.resolve_runtime_manifest(meta, api_url=paw.get_api_url())
path = cache.get_base_model_path(meta["interpreter"], runtime_manifest=manifest)
answer = [manifest["runtime_id"], str(path)]
""")
    assert told[0] == RUNTIME.id
    assert Path(told[1]).stat().st_size == RUNTIME.bytes


def test_what_is_not_there_is_said_at_once(sdk: Sdk) -> None:
    begin = time.monotonic()
    told = sdk("""
answer = []
for ask in (lambda: paw.function("nobody", remote=True), lambda: paw.prepare_program("0" * 32),
            lambda: paw.function("0" * 32, remote=True)("x")):
    try:
        ask()
    except Exception as error:
        answer.append([type(error).__name__, str(error)])
""")
    assert time.monotonic() - begin < 20  # a 404 of another kind is asked again for a minute
    assert [kind for kind, _ in told] == ["APIError", "RuntimeError", "APIError"]
    assert "Program not found: 'nobody'" in told[0][1]
    assert "not found on server" in told[1][1]
