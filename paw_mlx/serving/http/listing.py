"""The functions that are stored, with their versions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ... import formats, store
from ...client.stamps import file_key
from ...errors import PawError
from ...profiles import base_name
from ...store import StoredVersion
from .state import State, check_stored

_MAX_KNOWN = 1024


def routes(state: State, root: str) -> list[Route]:
    """Return the routes that list functions."""
    known = _Known()

    async def list_functions(request: Request) -> Response:
        """List the stored functions, each as its current version is."""
        return JSONResponse({"functions": await state.in_thread(known.all)})

    async def show_function(request: Request) -> Response:
        """Show a stored function, or one of its versions: `name@v2`."""
        return JSONResponse(await state.in_thread(known.one, request.path_params["ref"]))

    return [
        Route(f"{root}/functions", list_functions),
        Route(f"{root}/functions/{{ref:path}}", show_function),
    ]


class _Known:
    """What programs' files say, each read once."""

    def __init__(self) -> None:
        self._facts: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def all(self) -> list[dict[str, Any]]:
        """Return a record of every stored function, by name; a damaged one has an `error`."""
        by_name: dict[str, list[StoredVersion]] = {}
        for entry in store.entries():
            by_name.setdefault(entry.name, []).append(entry)
        return [self._told(entries, None) for entries in by_name.values()]

    def one(self, reference: str) -> dict[str, Any]:
        """Return the record of one; NotFound if it is not stored."""
        check_stored(reference)
        name, version = store.split(reference)
        return self._told([one for one in store.entries() if one.name == name], version)

    def _told(self, entries: list[StoredVersion], version: int | None) -> dict[str, Any]:
        shown = next(e for e in entries if (e.current if version is None else e.version == version))
        versions = [
            {"version": e.version, "bytes": e.bytes, "modified": e.modified, "current": e.current}
            for e in entries
        ]
        return {
            "name": shown.name,
            "current": next(e.version for e in entries if e.current),
            "versions": versions,
            "num_cases": shown.num_cases,
        } | self._read(shown.path)

    def _read(self, path: Path) -> dict[str, Any]:
        stamp = file_key(path)
        with self._lock:
            if stamp in self._facts:
                return self._facts[stamp]
        try:
            program = formats.load(path)
        except PawError as error:
            return {"spec": "", "output": {"type": "text"}, "interpreter": None} | {
                "program_id": None,
                "error": str(error),
            }
        facts = {
            "spec": program.spec,
            "output": program.output.record(),
            "interpreter": base_name(program.interpreter),
            "program_id": program.id,
        }
        with self._lock:
            self._facts[stamp] = facts
            while len(self._facts) > _MAX_KNOWN:
                self._facts.popitem(last=False)
        return facts
