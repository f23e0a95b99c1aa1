"""What a request of OpenAI's API asks of a function.

What would change an output and means nothing here is refused, unless it has the value that changes
nothing; what only labels a request (`user`, `metadata`, …) is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...output import Schema
from ...runner import Options
from .body import take, text_of
from .errors import Refused

# What changes outputs, and the values that do not (besides null).
_UNUSED: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "stop": ("", []),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "echo": (False,),
    "suffix": ("",),
    "audio": (),
    "modalities": (["text"],),
}
_MOST_LOGPROBS = 20


@dataclass(frozen=True)
class Asked:
    """A call as OpenAI's API asks it. `typed` are keywords of `paw_mlx.function`;
    `top_logprobs` is how many labels' log-probabilities are told, None for none at all."""

    model: str
    text: str
    options: Options
    typed: dict[str, Any] = field(default_factory=dict)
    stream: bool = False
    include_usage: bool = False
    top_logprobs: int | None = None
    json_object: bool = False


def read_chat(body: Mapping[str, Any]) -> Asked:
    """Read a request of /v1/chat/completions: the last user message's text is the input."""
    _check_unused(body)
    top = take(body, "top_logprobs", int)
    if take(body, "logprobs", bool, False):
        top = _check_top(top or 0)
    elif top is not None:
        raise Refused(400, "bad_field", "top_logprobs needs logprobs: true", param="top_logprobs")
    typed, json_object = _read_format(take(body, "response_format", dict, {}))
    return Asked(
        text_of(body, "model"),
        _last_user_text(take(body, "messages", list, ...)),
        _read_options(body),
        typed,
        *_read_stream(body),
        top,
        json_object,
    )


def read_completion(body: Mapping[str, Any]) -> Asked:
    """Read a request of /v1/completions: the prompt is the input."""
    _check_unused(body)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Refused(400, "bad_field", "the prompt must be one text", param="prompt")
    top = take(body, "logprobs", int)
    top = None if top is None else _check_top(top)
    return Asked(
        text_of(body, "model"),
        prompt,
        _read_options(body),
        {},
        *_read_stream(body),
        top,
    )


def _check_unused(body: Mapping[str, Any]) -> None:
    for name, harmless in _UNUSED.items():
        value = body.get(name)
        if value is not None and not any(value == one for one in harmless):
            raise Refused(400, "unsupported_parameter", f"{name} is not supported here", param=name)


def _check_top(number: int) -> int:
    if not 0 <= number <= _MOST_LOGPROBS:
        raise Refused(
            400,
            "bad_field",
            f"log-probabilities are told of 0 to {_MOST_LOGPROBS} labels, not of {number}",
            param="top_logprobs",
        )
    return number


def _read_options(body: Mapping[str, Any]) -> Options:
    limits = (take(body, name, int) for name in ("max_completion_tokens", "max_tokens"))
    return Options(
        max_tokens=next((limit for limit in limits if limit is not None), None),
        temperature=take(body, "temperature", float, 0.0),
        seed=take(body, "seed", int),
    )


def _read_stream(body: Mapping[str, Any]) -> tuple[bool, bool]:
    options = take(body, "stream_options", dict, {})
    return take(body, "stream", bool, False), take(options, "include_usage", bool, False)


def _read_format(given: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the type of outputs that a response_format says, and whether it is any object."""
    match given:
        case {} if not given:
            return {}, False
        case {"type": "text"}:
            return {}, False
        case {"type": "json_object"}:
            return {}, True
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return {"schema": Schema.of(schema)}, False
    raise Refused(
        400,
        "bad_field",
        "response_format is none that is known here",
        hint='Known: {"type": "text"}, {"type": "json_object"} and '
        '{"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}.',
        param="response_format",
    )


def _last_user_text(messages: list[Any]) -> str:
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return _text(message.get("content"))
    raise Refused(400, "bad_field", "there is no message of the role user", param="messages")


def _text(content: object) -> str:
    """Return a message's text: itself, or its parts, one after the other."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    texts = []
    for part in parts:
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case _:
                raise Refused(400, "bad_field", "a message's content is text", param="messages")
    return "".join(texts)
