"""README and docs say what is so: commands parse and print what is shown, names and links exist.

A console block shows commands behind `$ ` and what they print. Every `paw-mlx` in it is parsed by
its own command. Those that need no model run here, in a folder with the examples, page by page;
those that run the examples do so too where `make demo` has fetched their base. What is printed
must be what is shown, but for times, dates, and `…`, which stands for anything.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pages
import pytest

import paw_mlx as paw
from paw_mlx import errors
from paw_mlx.cli import cli

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [
    ROOT / "README.md",
    *DOCS,
    *(ROOT / folder / "README.md" for folder in ("examples", "convert", "benchmarks")),
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

BASES = ROOT / ".paw" / "bases"  # what `make demo` fetches
WITHOUT_MODEL = {
    "case", "convert", "diff", "inspect", "lint", "ls", "mac", "pull", "rollback", "verify",
}  # fmt: skip
WITH_MODEL = {"filter", "fix", "map", "run", "test"}
PLAIN = {"cat", "head", "mkdir", "printf", "tail", "tee"}
# What a compiler, a hub, PyTorch or training makes, what has no end, and what takes half a minute:
# commands that name it are parsed alone.
ELSEWHERE = re.compile(
    r"org/name|log-alert|(mine|cooking)\.paw|peft-email|mlx-email|\bemail\.paw|tail -f|\$\(|--base"
    r"|--bits|--ray|test\.jsonl|pull (smollm2-135m|qwen3-0\.6b|paw-4b|me/)|checkpoint\.pt"
)

NAMED = {  # what the docs call things
    "fn": paw.Function,
    "triage": paw.Function,
    "repair": paw.Function,
    "interpreter": paw.Interpreter,
    "compiler": paw.Compiler,
    "program": paw.Program,
    "result": paw.Result,
    "options": paw.Options,
    "adapter": paw.Adapter,
    "error": paw.PawError,
}
OPTIONS = {field.name for field in dataclasses.fields(paw.Options)}
COMPILER = {*inspect.signature(paw.Compiler.load).parameters, "compiler"}


# --- the shell -----------------------------------------------------------------------------


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that words name, and its own arguments."""
    command, words = cli, words.copy()
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found, f"there is no command {name!r}"
        command = found
    return command, words


def commands(group: click.Group = cli) -> Iterator[click.Command]:
    """Yield every command and every group of commands."""
    yield group
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command)
        elif command:
            yield command


def options_of(command: click.Command) -> set[str]:
    context = click.Context(command, help_option_names=["-h", "--help"])
    return {option for parameter in command.get_params(context) for option in parameter.opts}


@every_page
def test_every_command_parses(page: Path) -> None:
    for line, text, _ in pages.shown(page):
        for words in pages.simple_commands(text):
            if "paw-mlx" not in words[:1]:
                continue
            try:
                command, arguments = command_of(words[1:])
                settings = {"help_option_names": ["-h", "--help"]}
                command.make_context("paw-mlx", arguments, **settings)
            except click.exceptions.Exit:  # of --help
                pass
            except (AssertionError, click.ClickException) as error:
                raise AssertionError(f"{page.name}:{line}: {text}: {error}") from error


@every_page
def test_every_option_and_command_in_the_text_exists(page: Path) -> None:
    known = {"-", "--num"}.union(*map(options_of, commands()))  # --num is benchmarks.batch's
    for span in pages.spans(page):
        if span.startswith("-"):
            assert span.split()[0].split("=")[0] in known, span
        elif span.startswith("paw-mlx "):
            command, words = command_of(re.sub(r"[\[\]…]", " ", span).split()[1:])
            named = {word for word in words if word.startswith("-")}
            assert named <= options_of(command), span


def runs(command: str, with_model: bool) -> bool:
    """Return whether a line of the shell can run, with or without the base of the examples."""
    parts = [words for words in pages.simple_commands(command) if words]
    may = WITHOUT_MODEL | (WITH_MODEL if with_model else set())
    calls = [words[1] for words in parts if words[0] == "paw-mlx" and len(words) > 1]
    others = {words[0] for words in parts if words[0] != "paw-mlx"}
    return bool(set(calls) <= may and others <= PLAIN and not ELSEWHERE.search(command))


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell in a folder; what it says goes to stdout, errors too."""
    script = f'paw-mlx() {{ "{sys.executable}" -m paw_mlx "$@"; }}\n{command}'
    home = folder / "home"
    home.mkdir(exist_ok=True)
    if BASES.exists() and not (home / "bases").exists():
        (home / "bases").symlink_to(BASES)
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=os.environ | {"PAW_MLX_HOME": str(home), "PAW_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=240,
    )


def alike(shown: str) -> re.Pattern[str]:
    """Return what matches an output: words apart by any space, times and dates by any other."""
    pattern = re.escape(" ".join(shown.split()))
    pattern = re.sub(r"(\d|\\\.)+(\\ (ms|s\b|rows/s|lines/s))", r"[\\d.]+\2", pattern)
    pattern = re.sub(r'(_s|seconds)":\\ [\d\\.]+', r'\1":\\ [\\d.e-]+', pattern)
    pattern = re.sub(r"\d{4}\\-\d\d\\-\d\d\\ \d\d:\d\d", r"[-\\d]+ [:\\d]+", pattern)
    return re.compile(pattern.replace("\\ …", "…").replace("…", ".*?"))


@pytest.mark.parametrize(
    "with_model",
    [
        pytest.param(False, id="bare"),
        pytest.param(
            True,
            id="base",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(not BASES.exists(), reason="its base is not here: make demo"),
            ],
        ),
    ],
)
@every_page
def test_what_is_shown_is_printed(page: Path, with_model: bool, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for line, text, output in pages.shown(page):
        words = text.split()
        if words[0] == "cat" and not (tmp_path / words[1]).exists() and len(words) == 2:
            (tmp_path / words[1]).write_text(output)  # a file that a page begins with
        elif runs(text, with_model):
            done = shell(text, tmp_path)
            where = f"{page.name}:{line}: {text}\n{done.stdout}"
            assert done.returncode == ("error: " in output or "They differ" in output), where
            if output:
                assert alike(output).fullmatch(" ".join(done.stdout.split())), where


def test_what_can_run_without_a_model_is_shown_and_run() -> None:
    run = [text for page in PAGES for _, text, _ in pages.shown(page) if runs(text, False)]
    assert {name for name in WITHOUT_MODEL if any(f"paw-mlx {name}" in t for t in run)} == (
        WITHOUT_MODEL
    )


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: command.name)
def test_every_command_has_help(command: click.Command) -> None:
    assert command.get_help(click.Context(command)).startswith("Usage:")


# --- Python --------------------------------------------------------------------------------


def resolve(node: ast.expr) -> Any:
    """Return what an expression names, by its own name and the docs' names; None if unknown."""
    if isinstance(node, ast.Name):
        return paw if node.id == "paw" else NAMED.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := resolve(node.value)) is not None:
        of_instances = set(vars(owner).get("__annotations__", ()))
        if isinstance(owner, type):
            of_instances |= set(re.findall(r"self\.(\w+)", inspect.getsource(owner)))
        assert hasattr(owner, node.attr) or node.attr in of_instances, ast.unparse(node)
        return getattr(owner, node.attr, None)
    return None


def check(tree: ast.AST) -> None:
    """Check every name of ours, and every keyword of a call, in a piece of Python."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("paw_mlx"):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
        elif isinstance(node, ast.Attribute):
            resolve(node)
        elif isinstance(node, ast.Call) and callable(called := resolve(node.func)):
            check_keywords(called, node)


def check_keywords(called: Any, node: ast.Call) -> None:
    parameters = inspect.signature(called).parameters
    allowed = set(parameters)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        allowed |= COMPILER if called.__module__.startswith("paw_mlx.compiler") else OPTIONS
    assert {keyword.arg for keyword in node.keywords} <= allowed, ast.unparse(node)


@every_page
def test_python_compiles_and_names_what_exists(page: Path) -> None:
    for block in pages.blocks(page):
        if block.language == "python":
            flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            check(compile(block.text, f"{page.name}:{block.line}", "exec", flags))
    for span in pages.spans(page):
        if not re.search(r"\.(gguf|json|jsonl|md|paw|pt|py|txt)$", span):
            with contextlib.suppress(SyntaxError):
                check(ast.parse(span.replace("…", "..."), mode="eval"))


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
    assert [name for name in paw.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_every_error_has_a_way_out() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    kinds = [k for k in vars(errors).values() if inspect.isclass(k) and issubclass(k, Exception)]
    assert [kind.__name__ for kind in kinds if f"`{kind.__name__}`" not in text] == []


# --- the rest ------------------------------------------------------------------------------


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in pages.links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in pages.anchors(file), target
        if page in DOCS:
            inside = file.is_relative_to(ROOT / "docs")
            assert inside, f"{target} leaves the docs, which are built alone"


@every_page
def test_files_targets_and_variables_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    settings = (ROOT / "paw_mlx" / "settings.py").read_text(encoding="utf-8")
    for span in [*pages.spans(page), *(text for _, text, _ in pages.shown(page))]:
        for word in re.findall(r"[^\s=]+", span):
            if re.match(r"(paw_mlx|convert|benchmarks|tests|examples|docs)/", word) and (
                not re.search(r"[<>*{]|\.\.\.|…", word)
            ):
                assert (ROOT / word).exists(), word
            if re.fullmatch(r"PAW_[A-Z_]+", word):
                assert word in settings, word
        if match := re.match(r"make (\w+)$", span):
            assert match[1] in targets, span


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"- ([\w-]+\.md)$", text, re.MULTILINE)) == {page.name for page in DOCS}
