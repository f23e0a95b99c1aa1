"""OpenAI's API in its own words; the real client speaks to it in tests/parity."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from http_servers import LABELS, Served

import paw_mlx as paw

CHAT = "/v1/chat/completions"


def said(text: object, model: str = "words", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def test_the_last_user_message_is_the_input_and_nothing_else(server: Served) -> None:
    messages = [
        {"role": "system", "content": "Say something else."},
        {"role": "user", "content": "spring picnic"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": t} for t in ("the ", "disk")]},
        {"role": "assistant", "content": "y"},
    ]
    body = {"model": "words", "messages": messages, "max_tokens": 20, "user": "me"}
    answer = server.post(CHAT, body).json()
    result = paw.function("words").run("the disk", max_tokens=20)
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": result.text,
        "refusal": None,
    }
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 20
    assert answer["usage"]["prompt_tokens"] == result.prefix_tokens + result.input_tokens
    assert answer["object"] == "chat.completion"


def test_chunks_join_to_the_text_and_end_as_openais(server: Served) -> None:
    body = said("the disk", max_tokens=20, stream=True, stream_options={"include_usage": True})
    text = server.post(CHAT, body).text
    assert text.endswith("data: [DONE]\n\n")
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    *rest, usage = chunks
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert rest[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    joined = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in rest)
    assert joined == paw.function("words").run("the disk", max_tokens=20).text
    assert [one["choices"][0]["finish_reason"] for one in rest[:-1]] == [None] * (len(rest) - 1)
    assert rest[-1]["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 20


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_are_those_of_the_labels(server: Served, stream: bool) -> None:
    body = said("the disk", "me/topic", logprobs=True, top_logprobs=20, stream=stream)
    answer = server.post(CHAT, body)
    if stream:
        lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
        choices = [json.loads(line)["choices"][0] for line in lines]
        (told,) = [one["logprobs"]["content"] for one in choices if one["logprobs"]]
    else:
        told = answer.json()["choices"][0]["logprobs"]["content"]
    decision = paw.function("me/topic").decide("the disk")
    assert len(told) == 1
    assert told[0]["token"] == decision.label
    assert bytes(told[0]["bytes"]).decode() == decision.label
    found = {one["token"]: math.exp(one["logprob"]) for one in told[0]["top_logprobs"]}
    assert found == pytest.approx(dict(decision.probabilities))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    fewer = server.post(CHAT, said("x", "me/topic", logprobs=True)).json()
    assert fewer["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_a_response_format_is_the_type_of_the_output(server: Served) -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"topic": {"enum": list(LABELS)}},
        "required": ["topic"],
        "additionalProperties": False,
    }
    wish = {"type": "json_schema", "json_schema": {"name": "topic", "schema": schema}}
    answer = server.post(CHAT, said("the disk", response_format=wish)).json()
    value = json.loads(answer["choices"][0]["message"]["content"])
    assert value["topic"] in LABELS
    assert value == paw.function("words", schema=schema)("the disk")
    text = said("the disk", "me/topic", response_format={"type": "text"})
    assert server.post(CHAT, text).json()["choices"][0]["message"]["content"] in LABELS
    any_object = said("x", response_format={"type": "json_object"}, max_tokens=30)
    assert server.post(CHAT, any_object).json()["choices"][0]["message"]["content"][0] == "{"
    for wrong in (
        {"type": "grammar"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"schema": 3}},
    ):
        refused = server.post(CHAT, said("x", response_format=wrong))
        assert refused.json()["error"]["param"] == "response_format"


def test_a_prompt_is_completed(server: Served) -> None:
    body = {"model": "me/topic", "prompt": ["the disk"], "logprobs": 2}
    answer = server.post("/v1/completions", body).json()
    decision = paw.function("me/topic").decide("the disk")
    choice = answer["choices"][0]
    assert choice["text"] == decision.label
    assert choice["logprobs"]["tokens"] == [decision.label]
    assert math.exp(choice["logprobs"]["token_logprobs"][0]) == pytest.approx(decision.probability)
    assert len(choice["logprobs"]["top_logprobs"][0]) == 2
    assert server.post("/v1/completions", {"model": "words", "prompt": [1, 2]}).status_code == 400


def test_models_are_the_stored_functions(server: Served) -> None:
    models = server.client.get("/v1/models").json()
    assert [one["id"] for one in models["data"]] == ["me/topic", "words"]
    assert [one["owned_by"] for one in models["data"]] == ["me", "paw-mlx"]
    for reference in ("me/topic", "me%2Ftopic", "words@v1"):
        assert server.client.get(f"/v1/models/{reference}").json()["object"] == "model"
    assert server.client.get("/v1/models/gpt-4").json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("body", "param", "status"),
    [
        (said("x", n=2), "n", 400),
        (said("x", stop=["\n"]), "stop", 400),
        (said("x", top_p=0.5), "top_p", 400),
        (said("x", tools=[{"type": "function"}]), "tools", 400),
        (said("x", logprobs=True), "logprobs", 400),  # of text there are none
        (said("x", top_logprobs=2), "top_logprobs", 400),
        (said("x", "me/topic", logprobs=True, top_logprobs=21), "top_logprobs", 400),
        (said("x", "nobody"), "model", 404),
        (said("x", "/etc/passwd"), "model", 404),
        (said(None), "messages", 400),
        (said([{"type": "image_url"}]), "messages", 400),
        ({"model": "words", "messages": [{"role": "system", "content": "x"}]}, "messages", 400),
        ({"model": "words"}, "messages", 400),
        (said("x", max_tokens=0), None, 400),
        (said("disk " * 40_000), None, 413),
        (said("disk " * 40_000, stream=True), None, 413),
    ],
)
def test_what_cannot_be_is_refused_as_openai_does(
    server: Served, body: dict[str, Any], param: str | None, status: int
) -> None:
    answer = server.post(CHAT, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    if status == 413:
        assert error["code"] == "context_length_exceeded"


def test_what_changes_nothing_is_let_be(server: Served) -> None:
    harmless = {"n": 1, "top_p": 1, "stop": None, "tools": [], "frequency_penalty": 0.0}
    harmless |= {"presence_penalty": 0, "logit_bias": {}, "metadata": {"a": "b"}, "store": False}
    assert server.post(CHAT, said("x", max_tokens=1, **harmless)).is_success
