"""What a server says of itself: health, numbers without inputs, and a description of its API."""

from __future__ import annotations

import re

from http_servers import Served

from paw_mlx.serving.compiles import Compiles
from paw_mlx.serving.http.app import make_app
from paw_mlx.serving.http.metrics import Metrics
from paw_mlx.serving.http.state import State
from paw_mlx.serving.residents import Residents

SECRET = "the disk of Mrs Picnic is full"


def test_numbers_count_calls_and_hold_no_inputs(server: Served) -> None:
    for _ in range(3):
        server.post("/paw/v1/run/words", {"input": SECRET, "options": {"max_tokens": 5}})
    server.client.post("/paw/v1/map/me/topic", content=f'"{SECRET}"\n"x"\n')
    server.post("/paw/v1/run/words", {"input": "disk " * 40_000})
    server.client.get(f"/{SECRET}")
    server.post(f"/paw/v1/run/{SECRET}", {"input": "x"})
    server.client.request("SECRET", "/health")
    text = server.client.get("/metrics").text
    assert "Picnic" not in text
    assert "SECRET" not in text
    assert server.number('paw_calls_total{function="words",outcome="ok"}') == 3
    assert server.number('paw_calls_total{function="words",outcome="error"}') == 1
    assert server.number('paw_tokens_total{function="words",kind="output"}') == 15
    assert server.number('paw_call_seconds_count{function="words"}') == 4
    assert server.number('paw_calls_total{function="me/topic",outcome="ok"}') == 2
    assert server.number("paw_in_flight") == 1  # this very request
    assert server.number("paw_calls_in_flight") == 0


def test_labels_are_bounded_whatever_is_called() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.begin(f"name{number}")(None)
    functions = set(re.findall(r'paw_calls_total\{function="(.*?)"', metrics.text()))
    assert len(functions) == 101
    assert 'paw_calls_total{function="other",outcome="error"} 900' in metrics.text()


def test_every_route_is_described_once(server: Served) -> None:
    described = server.client.get("/openapi.json").json()
    state = State(Residents(), Compiles())
    found = set()
    for route in make_app(state).routes:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", route.path)  # type: ignore[attr-defined]
        if path != "/" and not path.startswith("/workbench"):
            methods = route.methods - {"HEAD"}  # type: ignore[attr-defined]
            found |= {(path, method.lower()) for method in methods}
    state.close()
    told = {(path, method) for path, methods in described["paths"].items() for method in methods}
    assert told == found
    operations = [one for methods in described["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one["summary"] for one in operations)


def test_a_described_body_has_the_fields_that_are_read(server: Served) -> None:
    """What the description calls required is missed, and what it does not name is refused."""
    paths = server.client.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {})
        schema = body.get("application/json", {}).get("schema")
        if not (path.startswith("/paw/v1/") and schema):
            continue
        url = path.replace("{ref}", "me/topic")
        for name in schema["required"]:
            rest = {key: "x" for key in schema["required"] if key != name}
            assert repr(name) in server.post(url, rest).json()["message"]
        told = server.post(url, {"nothing": 1}).json()
        assert told["error"] == "unknown_field"
        assert set(told["hint"].removeprefix("Known: ").rstrip(".").split(", ")) == {
            *schema["properties"]
        }


def test_the_root_leads_to_the_workbench(server: Served) -> None:
    assert server.client.get("/health").json()["status"] == "ok"
    assert server.client.get("/").headers["location"] == "/workbench/"
    assert server.client.get("/workbench/").status_code == 200
