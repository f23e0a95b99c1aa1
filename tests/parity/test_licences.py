"""The licences of what the extras bring that only the oracles install."""

from __future__ import annotations

import pytest
from licences import brought, refused


@pytest.mark.parametrize("extra", ["mcp", "ray"])
def test_licences_are_among_those_allowed(extra: str) -> None:
    pytest.importorskip(extra)
    packages = brought(extra)
    assert None not in packages.values()
    bad = {
        name: said for name, package in packages.items() if package and (said := refused(package))
    }
    assert bad == {}
