"""Who asks the PAW service of a test's server."""

from __future__ import annotations

from typing import Any

import httpx
from http_servers import Served


class Asker:
    """A client that answers with status and JSON."""

    def __init__(self, served: Served) -> None:
        self.url, self._client = f"{served.url}/api/v1", served.client

    def __call__(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        answer = self.raw(method, path, **options)
        return answer.status_code, answer.json()

    def raw(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Return the whole answer."""
        return self._client.request(method, f"/api/v1{path}", **options)
