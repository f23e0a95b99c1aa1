"""Commands broken at their changes on the disk, some breaks of each; `make kills`: a thousand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import breaking
import pytest
from hub_server import Hub, serving_hub
from scenarios import SCENARIOS, Scenario, fill
from together import PAIRS, Pair, Serial
from worlds import WORDS, World, can_shim, copy, make_shim, make_template

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_shim(), reason="no C compiler, or no Linux"),
]
BREAKS = int(os.environ.get("PAW_MLX_TEST_BREAKS", "1"))  # of each scenario
QUICK = ("case add and rm", "pull and rollback", "run and rm")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kills")
    with serving_hub(Hub()) as hub:
        world = make_template(folder / "template", make_shim(folder), hub.url)
        fill(hub, world.folder / "new.paw")
        yield world


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_break_loses_nothing_leaves_nothing_and_one_can_go_on(
    template: World, scenario: Scenario, tmp_path: Path
) -> None:
    check = breaking.Check.of(scenario, template, tmp_path)
    places = breaking.choose(check, Random(scenario.name), BREAKS)
    assert breaking.break_all(check, places, tmp_path / "broken") == []


@pytest.mark.parametrize(
    "pair", [pair for pair in PAIRS if pair.name in QUICK], ids=lambda pair: pair.name
)
def test_two_at_once_come_to_what_one_after_the_other_does(
    template: World, pair: Pair, tmp_path: Path
) -> None:
    serial = Serial.of(pair, template, tmp_path)
    assert serial.at_once(tmp_path / "once", Random(pair.name)) is None


def test_cases_that_many_add_at_once_are_all_kept(template: World, tmp_path: Path) -> None:
    world = copy(template, tmp_path / "world")
    texts = [f"the {word} is full" for word in WORDS]
    running = [world.start(["case", "add", "mail", text, "A"]) for text in texts]
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0] * len(texts)
    listed = world.run(["case", "ls", "mail"]).stdout.decode()
    assert all(text in listed for text in texts)


def test_what_kills_have_left_is_swept_by_the_next_write(template: World, tmp_path: Path) -> None:
    world = copy(template, tmp_path / "world")
    left = 0
    for at in range(2, 10):
        world.run(["case", "add", "mail", f"{at} disk", "A"], do="kill", at=at)
        left += bool(world.left())
    assert left
    assert world.run(["case", "add", "mail", "one more", "B"]).returncode == 0
    assert world.left() == []
