"""What options of all commands have in common."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from paw_mlx.cli import cli


def options_of(group: click.Group, *words: str) -> Iterator[tuple[str, click.Parameter]]:
    """Give the options of all commands below a group, each with its command."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from options_of(command, *words, name)
        elif command is not None:
            yield from ((" ".join([*words, name]), option) for option in command.params)


def test_no_range_takes_what_is_not_finite() -> None:
    ranges = [
        (command, option)
        for command, option in options_of(cli)
        if isinstance(option.type, click.FloatRange)
    ]
    assert {"tune", "train", "filter", "daemon start"} <= {command for command, _ in ranges}
    for _, option in ranges:
        assert option.type.convert("0.5" if option.type.max else "2", option, None)
        for value in ("nan", "inf"):
            with pytest.raises(click.BadParameter, match=r"no finite number|is not in the range"):
                option.type.convert(value, option, None)
