"""What a step costs the host: the figure that is printed, by ratios alone."""

from __future__ import annotations

import json

from click.testing import CliRunner

from paw_mlx.benchmarks import host

KINDS = ["mlx_lm_base_ms", "base_ms", "program_ms", "mixed_ms"]


def test_every_kind_is_measured_and_printed_beside_mlx_lm(monkeypatch):
    found = host.measure(5)
    assert list(found) == KINDS
    assert all(0 < ms < 1000 for ms in found.values())
    monkeypatch.setattr(host, "measure", lambda: found)
    assert json.loads(CliRunner().invoke(host.main, ["--json"]).output) == found
    lines = CliRunner().invoke(host.main).output.splitlines()
    assert len(lines) == len(KINDS)
    assert lines[0].split()[-2:] == ["1.00", "x"]
