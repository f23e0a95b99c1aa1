"""How errors are told over HTTP: a status, and a record in the words of the protocol asked.

The PAW service and our own API say `{"error": code, "message", "detail", "hint"}`, OpenAI's
`{"error": {"message", "type", "param", "code"}}`.
"""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from ...errors import (
    CallTimeout,
    ClosedError,
    CompileError,
    DaemonError,
    DiskError,
    HubError,
    InputTooLong,
    NotFound,
    OutputError,
    PawError,
    QueueFull,
)

# The first that fits decides; what is none of these is the caller's mistake.
_STATUS = (
    (NotFound, 404),
    (InputTooLong, 413),
    (OutputError, 422),
    (CallTimeout, 504),
    (ClosedError, 503),
    (DaemonError, 503),
    (HubError, 502),
    (DiskError, 507),
    (QueueFull, 429),
    (CompileError, 500),
)
_PHRASES = {
    400: "the request is malformed",
    404: "there is nothing at this path",
    405: "this path does not take that method",
    500: "the server made a mistake; its log has more",
}
_BAD_REQUEST = 400


class Refused(HTTPException):
    """A request that is refused, for a reason that is no PawError: a sentence, a code, a hint."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.code, self.hint, self.param = code, hint, param


def too_many(why: str, after_s: int, hint: str | None = None) -> Refused:
    """Return what is said to whoever may ask again, in so many seconds."""
    headers = {"Retry-After": str(after_s)}
    return Refused(429, "too_many_requests", why, hint=hint, headers=headers)


def status_of(error: PawError) -> int:
    """Return the HTTP status that says what kind of error it is."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), _BAD_REQUEST)


def record_of(error: PawError | HTTPException) -> dict[str, Any]:
    """Return an error as the PAW service and our own API tell it."""
    if isinstance(error, PawError):
        code, message, hint = type(error).__name__, str(error), " ".join(error.hints) or None
    else:
        code, message, hint = _told(error)
    record = {"error": code, "message": message, "detail": message}
    return record | ({"hint": hint} if hint else {})


def openai_record_of(error: PawError | HTTPException) -> dict[str, Any]:
    """Return an error as OpenAI's API tells it; a hint goes into the message."""
    record, param = record_of(error), getattr(error, "param", None)
    status = status_of(error) if isinstance(error, PawError) else error.status_code
    code = "context_length_exceeded" if isinstance(error, InputTooLong) else record["error"]
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = ". ".join(filter(None, (record["message"], record.get("hint"))))
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def tell(request: Request, error: Exception) -> Response:
    """Answer a request with its error, in the words of the API that was asked."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # nobody reads it
    if not isinstance(error, PawError | HTTPException):
        error = HTTPException(500)  # a bug, whose traceback is in the log
    status = status_of(error) if isinstance(error, PawError) else error.status_code
    headers = None if isinstance(error, PawError) else error.headers
    of_openai = request.scope["path"].startswith("/v1/")
    record = openai_record_of(error) if of_openai else record_of(error)
    return JSONResponse(record, status, headers)


def _told(error: HTTPException) -> tuple[str, str, str | None]:
    """Return the code, the message and the hint of what Starlette, or we, refused."""
    if isinstance(error, Refused):
        return error.code, error.detail, error.hint
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 500: "internal"}
    message = _PHRASES.get(error.status_code, error.detail)
    return codes.get(error.status_code, "refused"), message, None
