"""OpenAI's API, below /v1: stored functions are its models, an input is the last user message."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ... import store
from ...errors import NotFound, PawError
from ...functions import Function
from ...output import Labels, Schema
from ...runner import Result
from . import calls, sse
from .body import read_json
from .errors import Refused, openai_record_of
from .openai_answer import CHAT, COMPLETION, Answer, Kind
from .openai_request import Asked, read_chat, read_completion
from .state import State, check_stored

_ANY_OBJECT = {"type": "object"}


def routes(state: State) -> list[Route]:
    """Return the routes of OpenAI's API."""
    openai = _OpenAI(state)
    return [
        Route("/v1/models", openai.list_models, methods=["GET"]),
        Route("/v1/models/{model:path}", openai.show_model, methods=["GET"]),
        Route("/v1/chat/completions", openai.chat, methods=["POST"]),
        Route("/v1/completions", openai.complete, methods=["POST"]),
    ]


class _OpenAI:
    """Answers in the words of OpenAI's API."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def list_models(self, request: Request) -> Response:
        """List the stored functions as models."""
        entries = await self._state.in_thread(store.entries)
        models = [_model(one.name, one.modified) for one in entries if one.current]
        return JSONResponse({"object": "list", "data": models})

    async def show_model(self, request: Request) -> Response:
        """Show a stored function as a model."""
        reference = request.path_params["model"]

        def modified() -> float:
            check_stored(reference)
            return store.find(reference).stat().st_mtime

        try:
            return JSONResponse(_model(reference, await self._state.in_thread(modified)))
        except NotFound as error:
            raise _no_model(error) from None

    async def chat(self, request: Request) -> Response:
        """Run the function `model` on the last user message's text."""
        return await self._answer(request, read_chat, CHAT)

    async def complete(self, request: Request) -> Response:
        """Run the function `model` on the prompt."""
        return await self._answer(request, read_completion, COMPLETION)

    async def _answer(
        self, request: Request, read: Callable[[Mapping[str, Any]], Asked], kind: Kind
    ) -> Response:
        asked = read(await read_json(request))
        return await calls.until_gone(request, self._run(asked, kind))

    async def _run(self, asked: Asked, kind: Kind) -> Response:
        try:
            fn = await self._load(asked)
        except NotFound as error:
            raise _no_model(error) from None
        if asked.top_logprobs is not None and not isinstance(fn.program.output, Labels):
            raise Refused(
                400,
                "unsupported_parameter",
                f"logprobs are of labels, and {asked.model} gives {fn.program.output.kind}",
                param="logprobs",
            )
        answer = Answer(kind, asked, fn.program.id)
        if asked.stream:
            pieces = calls.stream(self._state, fn, asked.model, asked.text, asked.options)
            first = await anext(pieces)  # an input that cannot be run is no stream, but an error
            return sse.stream_bytes(_chunks(fn, first, pieces, answer))
        result = await calls.finish(self._state, fn, asked.model, asked.text, asked.options)
        return JSONResponse(answer.whole(result))

    async def _load(self, asked: Asked) -> Function:
        """Return the function that is asked for, its outputs of the type that is asked for."""
        fn = await self._state.function(asked.model, **asked.typed)
        if asked.json_object and not isinstance(fn.program.output, Schema):
            return await self._state.function(asked.model, schema=_ANY_OBJECT)
        return fn


async def _chunks(
    fn: Function, first: str | Result, rest: AsyncGenerator[str | Result], answer: Answer
) -> AsyncGenerator[bytes]:
    """Give an answer in chunks; a label comes as one, with its probabilities."""
    is_label = isinstance(fn.program.output, Labels)
    try:
        yield sse.encoded(None, answer.first())
        item: str | Result | None = first
        while item is not None:
            if isinstance(item, Result):
                if is_label:
                    yield sse.encoded(None, answer.piece(item.text, item))
                for chunk in answer.last(item):
                    yield sse.encoded(None, chunk)
            elif not is_label:
                yield sse.encoded(None, answer.piece(item))
            item = await anext(rest, None)
        yield b"data: [DONE]\n\n"
    except PawError as error:
        yield sse.encoded(None, openai_record_of(error))


def _model(reference: str, modified: float) -> dict[str, Any]:
    user = reference.rpartition("/")[0] or "paw-mlx"
    return {"id": reference, "object": "model", "created": int(modified), "owned_by": user}


def _no_model(error: NotFound) -> Refused:
    return Refused(404, "model_not_found", str(error), hint=" ".join(error.hints), param="model")
