"""A teacher behind an address: what is asked of it, and what is done when it answers badly."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate

import pytest
from hub_server import drip, send, send_json, serving
from teacher_server import message

from paw_mlx.errors import HubError, OfflineError, OptionError
from paw_mlx.teaching import endpoint
from paw_mlx.teaching.endpoint import Endpoint
from paw_mlx.teaching.questions import Question

ASKED = [Question("Lead.", f"[INPUT]\n{text}\n[END_INPUT]", 9) for text in ("soup", "chess")]


def refuse(code, text="no", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: send(handler, code, text.encode(), named)


def test_questions_are_answered_in_order_some_at_a_time(teacher):
    slow = threading.Event()
    teacher.spoil = lambda question, answer: (slow.wait(0.1), answer)[1]
    assert [*Endpoint(teacher.url, None).ask(ASKED * 8)] == ["yes", "no"] * 8
    assert 1 < teacher.most_at_once <= endpoint.PARALLEL
    body = teacher.log[0]
    assert body["model"] == "tutor"
    assert body["max_tokens"] == 9
    assert "Lead.\n\n[INPUT]\nsoup\n[END_INPUT]" in teacher.questions


def test_an_address_may_be_given_with_its_path(teacher):
    one = Endpoint(f"{teacher.url}/chat/completions", "tutor")
    assert [*one.ask(ASKED)] == ["yes", "no"]


def test_which_model_is_asked_has_to_be_clear(teacher):
    teacher.models = ["small", "large"]
    with pytest.raises(OptionError, match="has 2 models: small, large") as caught:
        Endpoint(teacher.url, None)
    assert "--teacher-model" in caught.value.hints[0]
    Endpoint(teacher.url, "large").ask(ASKED[:1]).__next__()
    assert teacher.log[0]["model"] == "large"


def test_a_busy_endpoint_is_asked_again_when_it_says(teacher, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    in_a_while = formatdate(time.time() + 30, usegmt=True)
    teacher.before = [
        refuse(429, Retry_After="7"),
        refuse(503, Retry_After=in_a_while),
        refuse(529, Retry_After="1e9"),
        refuse(500, Retry_After="soon"),
        lambda handler: send(handler, 200, b"{}" * 99, cut=9),
    ]
    assert [*Endpoint(teacher.url, "tutor").ask(ASKED[:1])] == ["yes"]
    assert waits[0] == 7
    assert 25 < waits[1] <= 30
    assert waits[2] == endpoint.MAX_WAIT_S
    assert 0 < waits[3] < waits[4]


def test_a_time_that_is_none_is_not_waited_for(teacher, monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.0)
    teacher.before = [refuse(429, Retry_After=f"Mon, 01 Jan 2029 00:00:00 +{'9' * 20}")]
    assert [*Endpoint(teacher.url, "tutor").ask(ASKED[:1])] == ["yes"]


def test_one_that_does_not_come_round_is_given_up(teacher):
    teacher.before = [refuse(429, "slow down", Retry_After="0") for _ in range(endpoint.TRIES)]
    with pytest.raises(HubError, match=r"6 tries; at last 429 .*slow down") as caught:
        [*Endpoint(teacher.url, "tutor").ask(ASKED[:1])]
    assert "goes on" in caught.value.hints[0]


@pytest.mark.parametrize(
    ("code", "hint"), [(401, "PAW_TEACHER_KEY"), (404, "/v1"), (400, None), (302, None)]
)
def test_a_refusal_is_not_asked_again(teacher, code, hint):
    teacher.before = [refuse(code, "bad\nmodel", Location="http://example.org/")]
    with pytest.raises(HubError, match=f"refused: {code} .*bad model") as caught:
        [*Endpoint(teacher.url, "tutor").ask(ASKED[:1])]
    assert hint is None or hint in caught.value.hints[0]
    assert len(teacher.log) == 1


def test_what_a_model_does_not_take_is_left_out_from_then_on(teacher):
    fault = '{"error": {"message": "Unsupported parameter: \'%s\'"}}'
    teacher.before = [refuse(400, fault % "max_tokens"), refuse(400, fault % "temperature")]
    one = Endpoint(teacher.url, "tutor")
    assert [*one.ask(ASKED[:1]), *one.ask(ASKED[1:])] == ["yes", "no"]
    assert [
        sorted({"max_tokens", "temperature", "seed"} & body.keys()) for body in teacher.log
    ] == [
        ["max_tokens", "seed", "temperature"],
        ["seed", "temperature"],
        ["seed"],
        ["seed"],
    ]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[" * 9999, b'{"choices": []}', b'{"choices": [{"message": null}]}']
)
def test_a_malformed_answer_costs_itself_alone(teacher, body):
    teacher.before = [lambda handler: send(handler, 200, body)]
    answers = [*Endpoint(teacher.url, "tutor").ask(ASKED * 2)]
    assert sorted(answer or "" for answer in answers)[0] == ""
    assert answers.count(None) == 1
    teacher.before = [lambda handler: send_json(handler, message(None))]
    assert [*Endpoint(teacher.url, "tutor").ask(ASKED[:1])] == [None]


def test_an_answer_has_its_bounds(teacher, monkeypatch):
    monkeypatch.setattr(endpoint, "MAX_BYTES", 1000)
    teacher.spoil = lambda question, answer: "x" * 2000
    with pytest.raises(HubError, match="at most 1000 bytes"):
        [*Endpoint(teacher.url, "tutor").ask(ASKED[:1])]


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", "no whole answer within 0.2 s"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no whole answer within 0.2 s"),
        (b"HTTP/1.1 429 Busy\r\n\r\n", "(429 Busy: it does not say why|no whole answer within)"),
    ],
    ids=["head", "body", "refusal"],
)
def test_an_answer_that_drips_is_given_up(teacher, monkeypatch, begin, said):
    monkeypatch.setattr(endpoint, "ANSWER_S", 0.2)
    monkeypatch.setattr(endpoint, "TRIES", 2)
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.0)
    teacher.before = [lambda handler: drip(handler, begin)] * 2
    with pytest.raises(HubError, match=f"2 tries; at last {said}"):
        [*Endpoint(teacher.url, "tutor").ask(ASKED[:1])]


def test_a_refusal_that_is_cut_is_one_all_the_same(teacher):
    def cut(handler):
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nno")

    teacher.before = [cut]
    with pytest.raises(HubError, match="refused: 400 Bad: it does not say why"):
        [*Endpoint(teacher.url, "tutor").ask(ASKED[:1])]


def test_the_key_goes_to_the_address_and_nowhere_else(teacher, monkeypatch):
    monkeypatch.setenv("PAW_TEACHER_KEY", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "not ours to send")
    heard = []
    with serving(lambda handler: heard.append(handler.path)) as elsewhere:
        teacher.before = [refuse(307, Location=elsewhere)]
        with pytest.raises(HubError, match="refused: 307"):
            [*Endpoint(teacher.url, "tutor").ask(ASKED[:1])]
    assert heard == []
    assert teacher.keys == ["Bearer secret"]


@pytest.mark.parametrize("url", ["http://example.org/v1", "http:///v1", "https://"])
def test_a_spec_is_sent_to_safe_addresses_alone(url):
    with pytest.raises(OptionError, match="is no address to send a spec to"):
        Endpoint(url, "tutor")


def test_offline_means_this_machine(teacher, monkeypatch):
    monkeypatch.setenv("PAW_OFFLINE", "1")
    with pytest.raises(OfflineError, match="not on this machine"):
        Endpoint("https://example.org/v1", "tutor")
    assert [*Endpoint(teacher.url, None).ask(ASKED)] == ["yes", "no"]


def test_nobody_waits_for_an_address_where_nothing_is():
    with serving(lambda handler: None) as gone:
        pass
    start = time.perf_counter()
    with pytest.raises(HubError, match="cannot reach"):
        Endpoint(gone, None)
    assert time.perf_counter() - start < 2


def test_an_answer_that_nobody_waits_for_holds_nothing_up(teacher):
    stop = threading.Event()
    teacher.spoil = lambda question, answer: (stop.wait(5) if "chess" in question else 0, answer)[1]
    answers = Endpoint(teacher.url, None).ask(ASKED)
    assert next(answers) == "yes"
    start = time.perf_counter()
    answers.close()
    assert time.perf_counter() - start < 1
    stop.set()
