"""`paw-mlx mcp`: functions as tools of agents."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click

from ..mac import launchd
from .command import Command
from .common import needing
from .daemon import idle_option
from .options import base_options, compiler_option
from .references import NAME
from .voice import say

_ACTIONS = ("compile", "test", "fix")
_MANY = 40  # tools: agents choose worse among more, and some clients take no more


class Actions(click.ParamType):
    """Names of what is allowed, parted by commas."""

    name = "actions"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        chosen = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
        if wrong := [part for part in chosen if part not in _ACTIONS]:
            self.fail(f"{wrong[0]!r} is none of {', '.join(_ACTIONS)}.")
        return chosen


@click.command(cls=Command)
@click.option(
    "--allow", metavar="A,B,…", type=Actions(), default=(),
    help="Let the agent also compile, test or fix functions.",
)  # fmt: skip
@click.option(
    "--only", metavar="NAME", type=NAME, multiple=True,
    help="Offer this function, or this version (NAME@vN), and no others; may be repeated.",
)  # fmt: skip
@compiler_option
@idle_option
@base_options
def command(
    allow: tuple[str, ...],
    only: tuple[str, ...],
    compiler: str | None,
    idle_s: float,
    base: dict[str, Any],
) -> None:
    """Offer the stored functions to an agent as tools (Model Context Protocol).

    An agent (Claude, Cursor, VS Code and others) starts this command itself, and speaks to it over
    standard input and output. A new version or name is offered as soon as it is there. --allow
    compile is what lets it make functions, --allow fix what lets it keep cases.
    """
    with needing("mcp", "speaking to agents", "mcp", "mcp_types"):
        from ..serving.mcp.server import AgentServer
    from ..serving.mcp.catalog import Catalog
    from ..serving.residents import Residents
    from ..serving.source import Source

    catalog = Catalog(only, say)
    num = len(catalog.offers())
    if not num:
        say("no function is stored yet; `paw-mlx compile SPEC --name NAME` makes one")
    elif num > _MANY:
        say(f"{num} functions are offered; agents choose better among fewer: --only NAME")
    if sys.stdin.isatty():
        _tell_people()
    names = ("interpreter", "bits", "group_size", "strict", "offline")
    keywords = {name: base[name] for name in names}
    compiles = None
    if "compile" in allow:
        from ..serving.compiles import Compiles

        compiles = Compiles(compiler, interpreter=base["interpreter"], offline=base["offline"])
    functions = Residents(idle_s) if base["local"] else Source(idle_s)
    try:
        server = AgentServer(
            functions, catalog, allowed=allow, compiles=compiles, keywords=keywords
        )
        asyncio.run(server.serve())
    finally:
        if compiles:
            compiles.close()
        functions.close()


def _tell_people() -> None:
    """Say to someone at a terminal what this is for, and how an agent is told of it."""
    program, *words = launchd.command("mcp", *sys.argv[2:])
    server: dict[str, Any] = {"command": program, "args": words}
    if variables := launchd.environment():
        server["env"] = variables
    config = {"mcpServers": {"paw-mlx": server}}
    say(
        "an agent starts this command and speaks to it; to add it to one, put this among its "
        f"settings:\n{json.dumps(config, indent=2)}\nControl-C ends it"
    )
