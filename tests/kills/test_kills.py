"""Commands broken at their changes on the disk, some breaks of each; `make kills`: a thousand."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import breaking
import pytest

pytestmark = pytest.mark.skipif(not breaking.can_shim(), reason="no C compiler, or no Linux")
BREAKS = int(os.environ.get("PAW_MLX_TEST_BREAKS", "4"))  # of each scenario


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> breaking.World:
    folder = tmp_path_factory.mktemp("kills")
    return breaking.make_template(folder / "template", breaking.make_shim(folder))


@pytest.mark.parametrize("scenario", breaking.SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_break_loses_nothing_and_one_can_go_on(
    template: breaking.World, scenario: breaking.Scenario, tmp_path: Path
) -> None:
    check = breaking.Check.of(scenario, template, tmp_path)
    places = breaking.choose(check, Random(scenario.name), BREAKS)
    assert breaking.break_all(check, places, tmp_path / "broken") == []


def test_two_at_once_both_count_or_one_is_told(template: breaking.World, tmp_path: Path) -> None:
    """Cases added by several processes at once are all kept."""
    world = breaking.copy(template, tmp_path / "world")
    texts = [f"the {word} is full" for word in breaking.WORDS]
    running = [world.start(["case", "add", "mail", text, "A"]) for text in texts]
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0] * len(texts)
    listed = world.run(["case", "ls", "mail"]).stdout.decode()
    assert all(text in listed for text in texts)


def test_what_kills_have_left_is_swept_by_the_next_write(
    template: breaking.World, tmp_path: Path
) -> None:
    world = breaking.copy(template, tmp_path / "world")
    left = 0
    for at in range(1, 10):
        world.run(["case", "add", "mail", f"{at} disk", "A"], do="kill", at=at)
        left += bool(world.left())
    assert left
    for path in world.folder.rglob("*"):
        if ".paw-" in str(path):
            os.utime(path, (1, 1))  # as if it were long ago
    assert world.run(["case", "add", "mail", "one more", "B"]).returncode == 0
    assert world.left() == []
