"""`paw-mlx serve`: functions over HTTP, with a workbench in the browser."""

from __future__ import annotations

import os
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import click

from .command import Command
from .common import needing, print_json
from .daemon import idle_option
from .options import PATH, compiler_option, json_option
from .voice import say, status


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8017, show_default=True,
    help="0 takes any that is free.",
)  # fmt: skip
@click.option(
    "--token-file", metavar="FILE", type=PATH,
    help="Ask clients for the token in FILE (or that of PAW_SERVE_TOKEN); beyond loopback, a must.",
)  # fmt: skip
@click.option(
    "--allow-host", metavar="NAME", multiple=True, help="Let it be asked by this name, too."
)
@click.option("--open", "browse", is_flag=True, help="Open the workbench in a browser.")
@compiler_option
@idle_option
@json_option
def command(
    host: str,
    port: int,
    token_file: Path | None,
    allow_host: tuple[str, ...],
    browse: bool,
    compiler: str | None,
    idle_s: float,
    as_json: bool,
) -> None:
    """Serve the stored functions over HTTP, and a workbench, until interrupted.

    Below /v1 they are models of OpenAI's API, below /api/v1 programs of the PAW service (set
    PAW_API_URL to the address), and below /paw/v1 functions; /openapi.json describes all of it.
    Only this machine is listened to, and no page of another origin; --host opens it to others,
    who need a token. Interrupted, it answers what was asked before. --json prints the address.
    """
    with needing("serve", "serving over HTTP", "starlette", "uvicorn"):
        from ..serving.http.server import listen, serve
    from ..serving.compiles import Compiles
    from ..serving.http.access import names_of, private_link, read_token
    from ..serving.http.state import State
    from ..serving.source import Source

    token = read_token(token_file)
    with ExitStack() as closing, listen(host, port) as listener:
        hosts, any_address = names_of(listener, host, allow_host, token)
        functions, compiles = Source(idle_s), Compiles(compiler)
        state = State(functions, compiles, token=token, hosts=hosts, any_address=any_address)
        url = _url(host, listener.getsockname()[1])

        def tell() -> None:
            if as_json:
                print_json({"url": url, "pid": os.getpid()})
            else:
                also = " and all other addresses of this machine" if any_address else ""
                say(f"serving at {url}{also}, workbench at {url}/workbench/ (Control-C ends it)")
            page = f"{url}/workbench/" + (f"#token={quote(token, safe='')}" if token else "")
            if token and not as_json:
                status(f"the workbench with its token: {page}")
            if browse:
                told = closing.enter_context(private_link(page)).as_uri() if token else page
                if click.launch(told):
                    webbrowser.open(told)

        try:
            serve(state, listener, tell)
        finally:
            compiles.close()
            functions.close()


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host) or (
        f"[{host}]" if ":" in host else host
    )
    return f"http://{name}:{port}"
