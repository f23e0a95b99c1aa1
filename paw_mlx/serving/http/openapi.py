"""The description of the API, OpenAPI 3.1: made of the routes, so that none is forgotten."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from starlette.routing import Route

_TEXT = {"type": "string"}
_OPTIONS: Mapping[str, Any] = {
    "max_tokens": {"type": "integer", "minimum": 1},
    "temperature": {"type": "number", "minimum": 0},
    "seed": {"type": "integer", "minimum": 0},
    "timeout_s": {"type": "number", "exclusiveMinimum": 0},
    "overflow": {"enum": ["error", "head", "tail", "middle"]},
    "threshold": {"type": "number", "minimum": 0, "maximum": 1},
    "otherwise": _TEXT,
}


def _object(required: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **others}, "required": [*required]}


_MESSAGE = _object({"role": _TEXT}, content={"type": ["string", "array", "null"]})
_SAMPLING = {
    "max_tokens": {"type": "integer"},
    "temperature": {"type": "number", "default": 0},
    "seed": {"type": "integer"},
    "stream": {"type": "boolean"},
    "stream_options": _object({}, include_usage={"type": "boolean"}),
}
# The bodies of requests, by method and path.
_BODIES: Mapping[tuple[str, str], dict[str, Any]] = {
    ("post", "/paw/v1/run/{ref}"): _object(
        {"input": _TEXT}, options=_object({}, **_OPTIONS), stream={"type": "boolean"}
    ),
    ("post", "/paw/v1/decide/{ref}"): _object({"input": _TEXT}, options=_object({}, **_OPTIONS)),
    ("post", "/paw/v1/cases/{ref}"): _object({"input": _TEXT, "output": _TEXT}),
    ("post", "/paw/v1/test/{ref}"): _object({}, gate=_TEXT),
    ("post", "/paw/v1/compare/{ref}"): _object({"with": _TEXT}),
    ("post", "/paw/v1/compiles"): _object(
        {"spec": _TEXT}, name=_TEXT, labels={"type": "array", "items": _TEXT}, compiler=_TEXT
    ),
    ("post", "/paw/v1/tune/{ref}"): _object(
        {}, gate=_TEXT, steps={"type": "integer"}, minutes={"type": "number"}
    ),
    ("post", "/v1/chat/completions"): _object(
        {"model": _TEXT, "messages": {"type": "array", "items": _MESSAGE}},
        max_completion_tokens={"type": "integer"},
        response_format={"type": "object"},
        logprobs={"type": "boolean"},
        top_logprobs={"type": "integer", "minimum": 0, "maximum": 20},
        **_SAMPLING,
    ),
    ("post", "/v1/completions"): _object(
        {"model": _TEXT, "prompt": _TEXT},
        logprobs={"type": "integer", "minimum": 0, "maximum": 20},
        **_SAMPLING,
    ),
}
_EVENTS = ("/test/", "/compare/", "/events")
_QUERY: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("delete", "/paw/v1/cases/{ref}"): {"number": {"type": "integer", "minimum": 1}},
    ("post", "/paw/v1/map/{ref}"): _OPTIONS,
}


def describe(routes: Sequence[Route], *, token: bool) -> dict[str, Any]:
    """Describe routes; with `token`, the server asks for one."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if not route.include_in_schema or route.path.startswith("/workbench"):
            continue
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(method.lower(), path, route)
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "paw-mlx", "version": version("paw-mlx")},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }
    if token:
        bearer, key = {"type": "http", "scheme": "bearer"}, {"type": "apiKey", "in": "header"}
        schemes = {"bearer": bearer, "key": key | {"name": "X-API-Key"}}
        described["components"]["securitySchemes"] = schemes
        described["security"] = [{name: []} for name in schemes]
    return described


_ERROR = _object({"error": {"type": ["string", "object"]}}, message=_TEXT, detail=_TEXT, hint=_TEXT)


def _operation(method: str, path: str, route: Route) -> dict[str, Any]:
    doc = inspect.getdoc(route.endpoint) or path
    told: dict[str, Any] = {
        "summary": doc.splitlines()[0],
        "operationId": re.sub(r"\W+", "_", f"{method}{path}").strip("_"),
        "tags": ["openai" if path.startswith("/v1/") else path.split("/")[1]],
        "responses": {"200": _answer(path), "default": _failure()},
    }
    names = re.findall(r"\{(\w+)\}", path)
    parameters = [{"name": n, "in": "path", "required": True, "schema": _TEXT} for n in names]
    query = _QUERY.get((method, path), {})
    parameters += [{"name": n, "in": "query", "schema": schema} for n, schema in query.items()]
    if parameters:
        told["parameters"] = parameters
    if body := _BODIES.get((method, path)):
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if path.startswith("/paw/v1/map/"):
        rows = {"application/jsonl": {"schema": _TEXT}}
        told["requestBody"] = {"required": True, "content": rows}
    return told


def _answer(path: str) -> dict[str, Any]:
    kind = "application/json"
    if any(part in path for part in _EVENTS):
        kind = "text/event-stream"
    elif path.startswith("/paw/v1/map/"):
        kind = "application/jsonl"
    elif path == "/metrics":
        kind = "text/plain"
    return {"description": "The answer.", "content": {kind: {}}}


def _failure() -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": "An error.", "content": error}
