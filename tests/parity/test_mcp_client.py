"""The official MCP client finds our functions: over pipes, in both eras of the protocol.

It checks every answer against its tool's schema by itself, and reports what is no message.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pages
import pytest

pytest.importorskip("mcp")

import tiny
import toy_compilers
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from shell import SCRIPT

from paw_mlx import Labels, kept_cases, settings, store
from paw_mlx.cases import Case
from paw_mlx.functions import Function
from paw_mlx.output import TEXT, Output, Schema
from paw_mlx.runner import Result
from paw_mlx.serving.mcp.catalog import Catalog
from paw_mlx.serving.mcp.server import AgentServer

ROOT = Path(__file__).parents[2]
BASES = ROOT / ".paw" / "bases"  # what `make demo` fetches
PAGE = ROOT / "docs" / "agents.md"
LABELS = Labels(("disk", "server", "picnic"))
POINT = Schema.of(
    {
        "type": "object",
        "properties": {"word": {"enum": ["disk", "server"]}, "good": {"type": "boolean"}},
        "required": ["word", "good"],
        "additionalProperties": False,
    }
)
WORDS = Schema.of({"type": "array", "items": {"enum": ["disk", "full"]}, "maxItems": 2})
SPEC = "1 if disk is there, else 0. Return ONLY one of: 0, 1"
both_eras = pytest.mark.parametrize("era", ["legacy", "auto"])  # to 2025-11-25, and since


class Toy:
    """A tiny base, and a compiler for it."""

    def __init__(self, folder: Path) -> None:
        self.base, self.compiler = folder / "base", folder / "compiler"
        toy_compilers.write_base(self.base)
        toy_compilers.train(self.base, self.compiler)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(tmp_path_factory.mktemp("toy"))


def keep(name: str, output: Output = TEXT, seed: int = 0, spec: str = "What is it?") -> None:
    """Store a function."""
    program = replace(tiny.program("llama", seed), spec=spec, output=output)
    store.add(program, name, profile=tiny.profile("llama"))


class Agent:
    """A client, and all that it hears besides answers."""

    def __init__(self, client: Client, heard: list[object], log: Path) -> None:
        self.client, self._heard, self._log = client, heard, log

    async def call(self, name: str, /, **arguments: Any) -> Any:
        return await self.client.call_tool(name, arguments)

    async def failure(self, name: str, /, **arguments: Any) -> str:
        """Call a tool that has to fail; return what the agent reads."""
        answer = await self.call(name, **arguments)
        assert answer.is_error
        assert answer.structured_content is None
        (content,) = answer.content
        assert "Traceback" not in content.text
        return content.text

    async def names(self) -> list[str]:
        return [tool.name for tool in (await self.client.list_tools()).tools]

    @property
    def log(self) -> str:
        """What the server said on standard error."""
        return self._log.read_text()


def run(
    toy: Toy | None,
    folder: Path,
    work: Callable[[Agent], Awaitable[None]],
    *words: object,
    era: str = "legacy",
    **environment: str,
) -> None:
    """Do some work with a server that the client starts, and stops."""
    base = ["--interpreter", str(toy.base)] if toy else []
    command = [*SCRIPT, "mcp", "--offline", *base, *map(str, words)]
    server = StdioServerParameters(
        command=command[0], args=command[1:], env={**os.environ, **environment}
    )
    heard = list[object]()

    async def hear(message: object) -> None:
        heard.append(message)

    async def session() -> None:
        with (folder / "log").open("w") as log:
            transport = stdio_client(server, errlog=log)
            async with Client(transport, mode=era, message_handler=hear) as client:
                await asyncio.wait_for(work(Agent(client, heard, folder / "log")), 100)

    asyncio.run(session())
    assert not [message for message in heard if isinstance(message, Exception)]


# --- functions ---------------------------------------------------------------------------------


@both_eras
def test_functions_are_listed_and_called(toy: Toy, tmp_path: Path, era: str) -> None:
    keep("says", seed=2)
    keep("me/sort", LABELS, spec="Sort it.")
    keep("point", POINT)
    keep("words", WORDS)

    async def work(agent: Agent) -> None:
        tools = {tool.name: tool for tool in (await agent.client.list_tools()).tools}
        assert [*tools] == ["me_sort", "point", "says", "words"]
        sort = tools["me_sort"]
        assert sort.title == "me/sort"
        assert sort.description == "Sort it.\n\nReturns one of: disk, server, picnic."
        assert sort.annotations.read_only_hint is True
        assert sort.annotations.open_world_hint is False
        assert sort.output_schema["properties"]["label"]["enum"] == [*LABELS.labels]
        assert tools["point"].output_schema == json.loads(POINT.text)
        assert tools["says"].output_schema is None
        label = await agent.call("me_sort", input="the disk is full")
        assert label.structured_content["label"] in LABELS.labels
        assert 1 / 3 <= label.structured_content["probability"] <= 1
        assert json.loads(label.content[0].text) == label.structured_content
        assert (await agent.call("point", input="a")).structured_content["word"] in (
            "disk",
            "server",
        )
        assert {*(await agent.call("words", input="a")).structured_content} == {"value"}
        said = await agent.call("says", input="the server is down")
        assert said.content[0].text
        assert said.structured_content is None

    run(toy, tmp_path, work, era=era)


def test_answers_are_those_of_the_command(toy: Toy, tmp_path: Path) -> None:
    keep("sort", LABELS)
    command = [*SCRIPT, "run", "sort", "the disk is full", "--json", "--local"]
    done = subprocess.run([*command, "--interpreter", toy.base], capture_output=True, check=True)
    expected = json.loads(done.stdout)

    async def work(agent: Agent) -> None:
        answers = await asyncio.gather(
            *(agent.call("sort", input="the disk is full") for _ in range(20))
        )
        for answer in answers:
            assert answer.structured_content["label"] == expected["label"]
            told = answer.structured_content["probability"]
            assert told == pytest.approx(expected["probability"], abs=2e-3)

    run(toy, tmp_path, work)


@both_eras
def test_a_new_version_and_a_new_name_are_told_and_used(toy: Toy, tmp_path: Path, era: str) -> None:
    keep("sort", Labels(("disk", "server")))

    async def work(agent: Agent) -> None:
        await agent.names()
        async with _changes(agent, era) as changed:
            await asyncio.to_thread(keep, "sort", LABELS, seed=1)
            assert "tools" in await changed()
            tools = (await agent.client.list_tools()).tools
            assert tools[0].meta["paw-mlx/version"] == 2
            assert len(tools[0].output_schema["properties"]["label"]["enum"]) == 3
            assert not (await agent.call("sort", input="picnic")).is_error
            await asyncio.to_thread(keep, "later")
            assert {"tools", "resources"} <= await changed()
            assert await agent.names() == ["later", "sort"]
            await asyncio.to_thread(store.remove, "sort")
            await changed()
            with pytest.raises(MCPError, match="no tool 'sort'"):
                await agent.call("sort", input="a")

    run(toy, tmp_path, work, era=era)


@asynccontextmanager
async def _changes(agent: Agent, era: str) -> AsyncIterator[Callable[[], Awaitable[set[str]]]]:
    """Yield what waits for the next changes, and returns of what kinds they are."""

    def kinds(seen: int) -> set[str]:
        methods = [str(getattr(message, "method", "")) for message in agent._heard[seen:]]
        return {m.split("/")[1] for m in methods if m.endswith("list_changed")}

    async def changed() -> set[str]:
        seen, deadline = len(agent._heard), time.monotonic() + 20
        while not kinds(seen) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        return kinds(seen)

    if era == "legacy":
        yield changed
        return
    async with agent.client.listen(tools_list_changed=True, resources_list_changed=True):
        yield changed


def test_a_resource_tells_the_spec_and_the_versions(toy: Toy, tmp_path: Path) -> None:
    keep("sort", LABELS, spec="Sort it.")
    keep("sort", LABELS, seed=1, spec="Sort it well.")

    async def work(agent: Agent) -> None:
        (resource,) = (await agent.client.list_resources()).resources
        (content,) = (await agent.client.read_resource(resource.uri)).contents
        told = json.loads(content.text)
        assert told["spec"] == "Sort it well."
        assert [(one["version"], one["current"]) for one in told["versions"]] == [
            (2, True),
            (1, False),
        ]
        for uri in (
            "paw-mlx://functions/none",
            "paw-mlx://functions/../sort",
            "file:///etc/passwd",
        ):
            with pytest.raises(MCPError, match="no resource"):
                await agent.client.read_resource(uri)

    run(toy, tmp_path, work)


@both_eras
def test_what_is_wrong_with_a_call_is_a_sentence(toy: Toy, tmp_path: Path, era: str) -> None:
    keep("sort", LABELS)
    keep("hidden")

    async def work(agent: Agent) -> None:
        assert await agent.names() == ["sort"]
        assert await agent.failure("sort", text="a") == "input is missing\nIts arguments: input."
        assert "limit 1,000,000" in await agent.failure("sort", input="a" * 1_000_001)
        assert "exceed the window" in await agent.failure("sort", input="disk " * 3000)
        for name in ("hidden", "compile_function", "test_function", "fix_function"):
            with pytest.raises(MCPError, match=f"no tool '{name}'"):
                await agent.call(name, input="a")
        assert not (await agent.call("sort", input="a")).is_error  # and it goes on

    run(toy, tmp_path, work, "--only", "sort", era=era)


@pytest.mark.skipif(not BASES.exists(), reason="the base of the examples is not here: make demo")
def test_the_page_shows_what_an_agent_sees(tmp_path: Path) -> None:
    settings.data_dir().mkdir(parents=True)
    (settings.data_dir() / "bases").symlink_to(BASES)
    blocks = {block.text: block.language for block in pages.blocks(PAGE)}
    commands = [line for _, line, _ in pages.shown(PAGE)]
    for command in commands[1:3]:
        words = [*SCRIPT, *command.split()[1:]]
        subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
    _, tool, answer = (json.loads(text) for text, language in blocks.items() if language == "json")
    (given,) = (json.loads(span) for span in pages.spans(PAGE) if span.startswith('{"input"'))

    async def work(agent: Agent) -> None:
        (listed,) = (await agent.client.list_tools()).tools
        assert listed.model_dump(by_alias=True, exclude_none=True, mode="json") == tool
        made = (await agent.call("mail", **given)).structured_content
        assert made["label"] == answer["label"]
        assert made == pytest.approx(answer, abs=2e-3)

    run(None, tmp_path, work)


# --- making and judging ------------------------------------------------------------------------


@both_eras
def test_a_function_is_compiled_with_progress_then_called_fixed_and_tested(
    toy: Toy, tmp_path: Path, era: str
) -> None:
    async def work(agent: Agent) -> None:
        steps = list[tuple[float, float | None, str | None]]()

        async def step(done: float, total: float | None, message: str | None) -> None:
            steps.append((done, total, message))

        made = await agent.client.call_tool(
            "compile_function", {"spec": SPEC, "name": "me/disk"}, progress_callback=step
        )
        assert made.structured_content["function"] == "me_disk"
        assert made.structured_content["output"]["labels"] == ["0", "1"]
        assert [done for done, _, _ in steps] == sorted({done for done, _, _ in steps})
        assert len(steps) > 1
        assert all(total == 100 and message for _, total, message in steps)
        assert "me_disk" in await agent.names()
        label = (await agent.call("me_disk", input="disk full")).structured_content["label"]
        other = "1" if label == "0" else "0"
        assert "no cases are kept" in await agent.failure("test_function", function="me_disk")
        case = {"function": "me_disk", "input": "disk full"}
        kept = await agent.call("fix_function", **case, expected=other)
        assert kept.structured_content | {"output": label, "correct": False, "status": "new"} == (
            kept.structured_content
        )
        tested = (await agent.call("test_function", function="me/disk")).structured_content
        assert (tested["cases"], tested["accuracy"]) == (1, 0)
        assert tested["failures"] == [{"input": "disk full", "expected": other, "output": label}]
        again = await agent.call("fix_function", **case, expected=label)
        assert again.structured_content["expected_before"] == other
        tested = (await agent.call("test_function", function="me_disk")).structured_content
        assert (tested["accuracy"], tested["failures"]) == (1, [])

    run(toy, tmp_path, work, "--allow", "compile,test,fix", "--compiler", toy.compiler, era=era)
    assert kept_cases.read("me/disk") == [Case("disk full", kept_cases.read("me/disk")[0].output)]


def test_what_cannot_be_made_is_a_sentence_and_nothing_is_stored(toy: Toy, tmp_path: Path) -> None:
    keep("mine")

    async def work(agent: Agent) -> None:
        compile = {"spec": SPEC, "name": "new"}
        for change, said in (
            ({"name": "No Name"}, "cannot name a program"),
            ({"name": "../up"}, "cannot name a program"),
            ({"name": "mine"}, "not offered here"),
            ({"spec": "  "}, "the spec is empty"),
            ({"spec": "a" * 20_001}, "limit 20,000"),
            ({"labels": ["one"]}, "labels are 2 to"),
        ):
            assert said in await agent.failure("compile_function", **(compile | change))
        assert "'mine' is offered" in await agent.failure("test_function", function="mine")

    keep("other")
    words = ("--allow", "compile,test", "--only", "other", "--compiler", toy.compiler)
    run(toy, tmp_path, work, *words)
    assert {entry.name for entry in store.entries()} == {"mine", "other"}


# --- cancellation ------------------------------------------------------------------------------


class Slow:
    """A runner whose calls never end by themselves."""

    max_in_flight = 4

    def __init__(self) -> None:
        self.calls = list[Future[Result]]()
        self.asked, self.loaded = threading.Event(), threading.Event()
        self.loaded.set()

    def submit(self, program: object, text: str, options: object) -> Future[Result]:
        if text == "bug":
            raise ZeroDivisionError("a secret")
        self.calls.append(Future())
        return self.calls[-1]

    def function(self, reference: str, **keywords: Any) -> Function:
        self.asked.set()
        assert self.loaded.wait(20)
        return Function(self, replace(tiny.program("llama"), output=LABELS))  # type: ignore[arg-type]


def test_a_cancelled_request_cancels_its_call_and_no_other() -> None:
    keep("sort", LABELS)
    slow = Slow()

    async def session() -> None:
        async with Client(AgentServer(slow, Catalog()).server, mode="legacy") as client:
            calls = [
                asyncio.create_task(client.call_tool("sort", {"input": text})) for text in "ab"
            ]
            while len(slow.calls) < 2:
                await asyncio.sleep(0.01)
            calls[0].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await calls[0]
            for _ in range(300):
                if any(call.cancelled() for call in slow.calls):
                    break
                await asyncio.sleep(0.01)
            assert sum(call.cancelled() for call in slow.calls) == 1
            calls[1].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await calls[1]

    asyncio.run(session())


def test_a_request_that_is_cancelled_while_its_base_is_loaded_computes_nothing() -> None:
    keep("sort", LABELS)
    slow = Slow()
    slow.loaded.clear()

    async def session() -> None:
        async with Client(AgentServer(slow, Catalog()).server, mode="legacy") as client:
            call = asyncio.create_task(client.call_tool("sort", {"input": "a"}))
            await asyncio.to_thread(slow.asked.wait, 20)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
            await client.list_tools()  # by then the server knows
            slow.loaded.set()
            for _ in range(300):
                if slow.calls and slow.calls[0].cancelled():
                    break
                await asyncio.sleep(0.01)
            assert [one.cancelled() for one in slow.calls] == [True]

    asyncio.run(session())


def test_a_cancelled_compile_stores_nothing(toy: Toy, tmp_path: Path) -> None:
    async def work(agent: Agent) -> None:
        begun = asyncio.Event()

        async def step(done: float, total: float | None, message: str | None) -> None:
            begun.set()

        compile = agent.client.call_tool(
            "compile_function", {"spec": SPEC, "name": "new"}, progress_callback=step
        )
        task = asyncio.create_task(compile)
        await begun.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        made = await agent.call(
            "compile_function", spec=SPEC, name="next"
        )  # after it, in the queue
        assert not made.is_error
        assert await agent.names() == ["next", "compile_function"]

    run(toy, tmp_path, work, "--allow", "compile", "--compiler", toy.compiler)


def test_a_bug_is_an_error_without_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    keep("sort", LABELS)

    async def session() -> None:
        async with Client(AgentServer(Slow(), Catalog()).server) as client:
            answer = await client.call_tool("sort", {"input": "bug"})
            assert answer.is_error
            assert answer.content[0].text.startswith("an internal error (ZeroDivisionError)")

    asyncio.run(session())
    assert "a secret" in caplog.text  # the log has it


# --- the pipes ---------------------------------------------------------------------------------

NOISE = """
import os, sys, threading, time
def noise():
    while "mcp.server.stdio" not in sys.modules or not serving():
        time.sleep(0.01)
    for _ in range(20):
        print("noise of print")
        os.write(1, b"noise of C\\n")
        os.system("echo noise of a child")
        time.sleep(0.02)
def serving():  # once file descriptor 1 has been taken
    return os.fstat(1).st_ino == os.fstat(2).st_ino
threading.Thread(target=noise, daemon=True).start()
"""


def test_nothing_but_the_protocol_is_on_standard_output(toy: Toy, tmp_path: Path) -> None:
    keep("sort", LABELS)
    (tmp_path / "sitecustomize.py").write_text(NOISE)

    async def work(agent: Agent) -> None:
        for _ in range(20):
            assert not (await agent.call("sort", input="disk")).is_error
            await asyncio.sleep(0.05)
        for noise in ("print", "C", "a child"):
            assert f"noise of {noise}" in agent.log

    run(toy, tmp_path, work, PYTHONPATH=str(tmp_path))


class Wire:
    """A server, its pipes, and messages as lines."""

    def __init__(self, *words: object, command: Sequence[str] = (*SCRIPT, "mcp", "--offline")):
        self.process = subprocess.Popen(
            [*command, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def send(self, *lines: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"".join(line + b"\n" for line in lines))
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def end(self, number: int | None = None) -> tuple[int, float, str]:
        """End it, by a signal or by closing its input; its exit code, seconds and log."""
        if number is not None:
            self.process.send_signal(number)
        start = time.monotonic()
        try:
            if number is None:
                out, log = self.process.communicate(timeout=30)
            else:  # the client's end stays open
                code = self.process.wait(30)
                out, log = self.process.communicate()
        finally:
            self.process.kill()
        code = self.process.returncode
        assert out == b""
        return code, time.monotonic() - start, log.decode()


PING = b'{"jsonrpc": "2.0", "id": %d, "method": "ping"}'


def test_lines_that_are_no_message_or_far_too_long_do_no_harm() -> None:
    wire = Wire()
    try:
        wire.send(PING % 1)
        assert wire.receive()["id"] == 1
        wire.send(b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"a":' * 100_000)
        wire.send(b'{"jsonrpc":"2.0","id":9,"method":"ping","params":{"a":"' + b"a" * (150 << 20))
        wire.send(PING % 2)
        while (answer := wire.receive()).get("id") != 2:
            assert "error" in answer
        peak = _peak_bytes(wire.process.pid)
        assert peak is None or peak < 400e6
    finally:
        code, seconds, _ = wire.end()
    assert code == 0
    assert seconds < 5


def _peak_bytes(pid: int) -> float | None:
    """The most memory that a process had; None where nobody says."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return float(lines["VmHWM"].split()[0]) * 1024


SLOW = """
import asyncio, sys, threading, time
from concurrent.futures import Future
from pathlib import Path
from paw_mlx import formats, store
from paw_mlx.errors import OptionError
from paw_mlx.functions import Function
from paw_mlx.serving.mcp.catalog import Catalog
from paw_mlx.serving.mcp.server import AgentServer

class Slow:  # whose calls end once there is a file
    max_in_flight = 4
    def submit(self, program, text, options):
        call = Future()
        threading.Thread(target=self.end, args=(call,), daemon=True).start()
        return call
    def end(self, call):
        while not Path(sys.argv[1]).exists():
            time.sleep(0.01)
        call.set_exception(OptionError("enough" * int(sys.argv[2])))
    def function(self, reference, **keywords):
        return Function(self, formats.load(store.find(reference)))

asyncio.run(AgentServer(Slow(), Catalog(), held_bytes=1 << 20).serve())
"""
CALL = (
    b'{"jsonrpc": "2.0", "id": %d, "method": "tools/call", "params": '
    b'{"name": "sort", "arguments": {"input": "%s"}}}'
)
HELLO = (
    b'{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": '
    b'"2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}}',
    b'{"jsonrpc": "2.0", "method": "notifications/initialized"}',
)


@pytest.mark.parametrize("times", [1, 20_000])
def test_calls_beyond_the_room_stay_in_the_pipe_and_are_answered_later(
    tmp_path: Path, times: int
) -> None:
    """Ten calls fill the room, a dozen lines are on their way to it, and more are not read.

    Where the calls do not end, or their answers, of 120 KB, are not read.
    """
    keep("sort", LABELS)
    wire = Wire(tmp_path / "go", times, command=(sys.executable, "-c", SLOW))
    if times > 1:
        (tmp_path / "go").touch()
    sent = 0

    def send() -> None:
        nonlocal sent
        for number in range(1, 81):
            wire.send(CALL % (number, b"d" * 100_000))
            sent = number

    sender = threading.Thread(target=send)
    try:
        wire.send(*HELLO)
        assert wire.receive()["id"] == 0
        sender.start()
        before = -1
        while sent != before or not sent:
            before = sent
            time.sleep(1)
        assert sent < 40
        (tmp_path / "go").touch()
        answers = dict[int, str]()
        while len(answers) < 80:
            answer = wire.receive()
            answers[answer["id"]] = answer["result"]["content"][0]["text"]
        assert sorted(answers) == [*range(1, 81)]
        assert all(answer.startswith("enough") for answer in answers.values())
    finally:
        wire.process.kill()
        sender.join()
        wire.process.communicate()


def test_an_interrupt_ends_it_at_once_while_the_client_is_still_there() -> None:
    wire = Wire()
    wire.send(PING % 1)
    wire.receive()
    code, seconds, log = wire.end(signal.SIGINT)
    assert (code, log.count("Traceback")) == (130, 0)
    assert seconds < 5


# --- for people --------------------------------------------------------------------------------


def test_without_the_package_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['mcp'] = None")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*SCRIPT, "mcp"],
        capture_output=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().splitlines() == [
        "error: speaking to agents needs the package mcp",
        "hint: `pip install 'paw-mlx[mcp]'` brings it.",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "mial"], "Did you mean mail?"),
        (["--allow", "tset"], "'tset' is none of compile, test, fix"),
    ],
)
def test_a_wrong_word_is_said_before_anything_is_served(words: list[str], said: str) -> None:
    keep("mail")
    done = subprocess.run(
        [*SCRIPT, "mcp", *words], capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode
    assert said in done.stderr.decode()


def test_an_empty_store_is_told_in_the_log_and_served() -> None:
    wire = Wire()
    wire.send(PING % 1)
    assert wire.receive()["id"] == 1
    code, _, log = wire.end()
    assert code == 0
    assert "no function is stored yet" in log
