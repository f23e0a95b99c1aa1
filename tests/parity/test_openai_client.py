"""The official `openai` package against `paw-mlx serve`, and validators of what it describes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from http_servers import LABELS, Served, http_server, store_functions, write_base

import paw_mlx as paw

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def server(base: Path) -> Iterator[Served]:
    store_functions(base)
    with http_server(token="0123456789abcdef") as served:
        yield served


@pytest.fixture
def client(server: Served) -> Iterator[Any]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="0123456789abcdef", max_retries=0
    ) as made:
        yield made


def ask(client: Any, model: str, text: str, **more: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=model, messages=messages, **more)


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["me/topic", "words"]
    assert client.models.retrieve("me/topic").owned_by == "me"


def test_chat(client: Any) -> None:
    answer = ask(client, "words", "the disk", max_completion_tokens=20, temperature=0.7, seed=3)
    result = paw.function("words").run("the disk", max_tokens=20, temperature=0.7, seed=3)
    assert answer.choices[0].message.content == result.text
    assert answer.usage.completion_tokens == 20
    assert answer.usage.prompt_tokens_details.cached_tokens == result.prefix_tokens


def test_a_stream_with_its_usage(client: Any) -> None:
    chunks = [
        *ask(
            client,
            "words",
            "the disk",
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == paw.function("words").run("the disk", max_tokens=20).text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.completion_tokens == 20
    assert chunks[-2].choices[0].finish_reason == "length"


def test_the_clients_own_accumulator_of_a_stream(client: Any) -> None:
    with client.chat.completions.stream(
        model="me/topic",
        messages=[{"role": "user", "content": "the disk"}],
        logprobs=True,
        top_logprobs=3,
    ) as stream:
        kinds = [event.type for event in stream]
        whole = stream.get_final_completion()
    decision = paw.function("me/topic").decide("the disk")
    assert whole.choices[0].message.content == decision.label
    assert "logprobs.content.delta" in kinds
    assert kinds[-2:] == ["content.done", "logprobs.content.done"]


def test_logprobs(client: Any) -> None:
    answer = ask(client, "me/topic", "the disk", logprobs=True, top_logprobs=3)
    (token,) = answer.choices[0].logprobs.content
    decision = paw.function("me/topic").decide("the disk")
    assert token.token == decision.label == answer.choices[0].message.content
    found = {one.token: math.exp(one.logprob) for one in token.top_logprobs}
    assert found == pytest.approx(dict(decision.probabilities))


def test_a_response_format_of_pydantic(client: Any) -> None:
    pytest.importorskip("llguidance")
    pydantic = pytest.importorskip("pydantic")
    kinds = Literal["disk", "server", "picnic"]
    Topic = pydantic.create_model("Topic", topic=kinds)
    answer = client.chat.completions.parse(
        model="words",
        messages=[{"role": "user", "content": "the disk"}],
        response_format=Topic,
    )
    assert answer.choices[0].message.parsed.topic in LABELS


def test_completions(client: Any) -> None:
    answer = client.completions.create(model="me/topic", prompt="the disk", logprobs=3)
    assert answer.choices[0].text == answer.choices[0].logprobs.tokens[0]
    chunks = [*client.completions.create(model="words", prompt="x", stream=True, max_tokens=9)]
    text = "".join(chunk.choices[0].text for chunk in chunks)
    assert text == paw.function("words").run("x", max_tokens=9).text


def test_errors_are_those_the_client_knows(client: Any, server: Served) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        ask(client, "nobody", "x")
    assert missing.value.code == "model_not_found"
    assert missing.value.param == "model"
    with pytest.raises(openai.BadRequestError) as many:
        ask(client, "words", "x", n=2)
    assert many.value.param == "n"
    with pytest.raises(openai.APIStatusError) as long:
        ask(client, "words", "disk " * 40_000)
    assert long.value.code == "context_length_exceeded"
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as other,
        pytest.raises(openai.AuthenticationError),
    ):
        other.models.list()


def test_a_stream_that_is_left_ends_the_call(client: Any, server: Served) -> None:
    stream = ask(client, "words", "x", max_tokens=30_000, stream=True)
    next(iter(stream))
    stream.close()
    while server.number("paw_calls_in_flight"):
        pass


def test_the_description_is_valid_openapi(server: Served) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    described = server.client.get("/openapi.json").json()
    validator.OpenAPIV31SpecValidator(described).validate()


def test_prometheus_reads_the_numbers(server: Served) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    server.post("/paw/v1/run/words", {"input": "x", "options": {"max_tokens": 2}})
    families = {
        one.name: one
        for one in parser.text_string_to_metric_families(server.client.get("/metrics").text)
    }
    assert families["paw_call_seconds"].type == "histogram"
    assert families["paw_http_requests"].type == "counter"
    assert [one.value for one in families["paw_calls"].samples] == [1]
