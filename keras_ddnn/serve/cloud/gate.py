"""What a request meets before the service: who may ask, and whether there is room for it.

Everything here looks at the header alone, so that a refusal costs no body, no parsing and little
memory, and stands in front of FastAPI, so that it costs no routing either.
"""

import asyncio
import hmac
import json
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from reprlib import repr as brief

from starlette.types import ASGIApp, Receive, Scope, Send

from keras_ddnn.serve.cloud.turns import Turns

FREE_BYTES = 64 << 10  # of each body; the number of connections bounds their sum
RETRY_SECONDS = (1, 3)

Count = Callable[[int], None]
Headers = Mapping[bytes, bytes]
Answer = Callable[[Scope, Headers, bytes], Awaitable[ASGIApp]]


@dataclass(frozen=True)
class GateLimits:
    """What one service spends on its clients.

    Attributes:
        body_seconds: That a client may take to send a body.
        budget: Bytes of all bodies that are read or wait for their answer, beyond the first
            `FREE_BYTES` of each; the longest body counts if it has more.
        hold_seconds: That a connection is not read after a refusal for want of room; less than
            any `Retry-After`.
        linger_seconds: For a client that sends all of its body before it reads that it is refused.
        refusals_per_second: For want of room, that are told.
    """

    body_seconds: float = 10.0
    budget: int = 64 << 20
    hold_seconds: float = 0.9
    linger_seconds: float = 2.0
    refusals_per_second: float = 300.0


class Refused(Exception):
    """A request that is not let in.

    Attributes:
        status: Of HTTP.
        reason: One line.
        headers: Further ones of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None):
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})


def come_again() -> dict[str, str]:
    """Return the header that says when to ask again, which differs from client to client.

    Clients that were refused together would otherwise come back together.
    """
    return {"Retry-After": str(random.randint(*RETRY_SECONDS))}


class Gate:
    """Lets those requests through that may ask and that there is room for.

    A client that is refused for want of room may come back at once, whatever it is told, and
    hundreds of them would keep the service from its work. So its next request on the same
    connection is not looked at before `hold_seconds`, in which whoever obeys does not ask; and of
    those that come over new connections, no more than `refusals_per_second` are told. The others
    wait, which costs nothing.

    Args:
        app: What answers all other requests.
        answer: What answers those that have a body: scope, headers, body → response; it may raise
            Refused.
        asked: Whether a path is one of theirs.
        method: Of HTTP, by which they come.
        free: Whether a path needs no token.
        token: What the others must carry as `Authorization: Bearer`; None for nothing.
        hosts: Names that a Host header may hold, beside every address; None for any. A web page
            whose own name is made to lead here cannot pass, for its requests carry that name.
        max_bytes: Length of the longest body.
        lack: Why no request has a chance now; None if one has.
        count: Told the status of each refusal.
        limits: Of time, memory and refusals.
    """

    def __init__(
        self,
        app: ASGIApp,
        answer: Answer,
        *,
        asked: Callable[[str], object],
        method: str = "POST",
        free: Callable[[str], object],
        token: str | None,
        hosts: Collection[str] | None,
        max_bytes: int,
        lack: Callable[[], str | None],
        count: Count,
        limits: GateLimits,
    ):
        self.app, self.answer = app, answer
        self.asked, self.method, self.free = asked, method, free
        self.expected = token and f"Bearer {token}".encode()
        self.hosts = None if hosts is None else {name.lower() for name in hosts}
        self.lack, self.count = lack, count
        self.limits = limits
        self.allow(max_bytes)
        self._turns = Turns(limits.refusals_per_second)
        self._held = 0  # bytes of the budget

    def allow(self, max_bytes: int) -> None:
        """Take bodies of other lengths from now on; `max_bytes` is that of the longest."""
        self.max_bytes, self.budget = max_bytes, max(self.limits.budget, max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            self._check(scope["path"], headers)
            if self.asked(scope["path"]):
                await self._ask(scope, headers, receive, send)
            else:
                await self.app(scope, receive, send)
        except Refused as refusal:
            self.count(refusal.status)
            await self._tell(refusal, receive, send)

    async def _tell(self, refusal: Refused, receive: Receive, send: Send) -> None:
        """Answer with the reason, all of it; the exchange ends when the client may go on.

        Where the connection ends with the exchange, what the client is still sending is thrown away
        for a while: closing at once would take the answer from a client that sends all of its body
        before it reads.
        """
        # json.dumps escapes what UTF-8 cannot encode.
        content = json.dumps({"error": refusal.reason}).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        lines = [
            (name.lower().encode(), value.encode())
            for name, value in (headers | refusal.headers).items()
        ]
        await send({"type": "http.response.start", "status": refusal.status, "headers": lines})
        closes = "Connection" in refusal.headers
        held = closes or "Retry-After" in refusal.headers
        await send({"type": "http.response.body", "body": content, "more_body": held})
        if held:
            seconds = self.limits.linger_seconds if closes else self.limits.hold_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._throw_away(receive, closes)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _throw_away(self, receive: Receive, closes: bool) -> None:
        """Take what comes: to the end of the body, or until the connection ends."""
        left = 4 * self.max_bytes
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if message["type"] == "http.disconnect" or (closes and not message.get("more_body")):
                return

    def _check(self, path, headers) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts is not None and not _is_known(host, self.hosts):
            names = ", ".join(sorted(self.hosts))
            raise Refused(
                421,
                f"expected a Host of {names} or an address; received {brief(host)}: --allow-host",
            )
        if self.expected and not self.free(path):
            received = headers.get(b"authorization", b"")
            if not hmac.compare_digest(received, self.expected):
                reason = "expected this service's bearer token"
                raise Refused(401, reason, {"WWW-Authenticate": "Bearer"})

    async def _ask(self, scope, headers, receive, send) -> None:
        if scope["method"] != self.method:
            raise Refused(405, f"expected {self.method}", {"Allow": self.method})
        scope["since"] = time.perf_counter()
        coding = headers.get(b"content-encoding", b"identity").decode("latin-1")
        if coding.lower() != "identity":
            raise Refused(415, f"expected a body that is not compressed; received {brief(coding)}")
        declared = self._declared(headers)
        if reason := self._lack(declared):
            await self._turns.take()
            raise Refused(503, reason, come_again())
        share = _Share(self)
        try:
            share.grow(declared)
            body = await self._read(receive, share)
            response = await self.answer(scope, headers, body)
            await response(scope, receive, send)
        finally:
            share.end()

    def _lack(self, declared: int) -> str | None:
        """Return what there is no room in, None if there is."""
        if reason := self.lack():
            return reason
        if self._held + _beyond_free(declared) > self.budget:
            return f"{self.budget} bytes of other requests are held already"
        return None

    def _declared(self, headers) -> int:
        text = headers.get(b"content-length", b"")
        # Comparing lengths first keeps a number of a million digits from being read.
        digits = text.lstrip(b"0") if text.isdigit() else b""
        if len(digits) > len(str(self.max_bytes)) or int(digits or 0) > self.max_bytes:
            raise self._too_long()
        return int(digits or 0)

    def _too_long(self) -> Refused:
        return Refused(413, f"a body may have {self.max_bytes} bytes", {"Connection": "close"})

    async def _read(self, receive, share) -> bytes:
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the connection ended within the body")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    size += len(part)
                    if size > self.max_bytes:
                        raise self._too_long()
                    share.grow(size)
                    parts.append(part)
        except TimeoutError:
            reason = f"a body must come within {self.limits.body_seconds:g} s"
            raise Refused(408, reason, {"Connection": "close"}) from None
        return b"".join(parts)


class _Share:
    """What one body holds of the budget of a gate."""

    def __init__(self, gate: Gate):
        self.gate = gate
        self.held = 0

    def grow(self, size: int) -> None:
        """Hold enough for `size` bytes; a chunked body is not known to be long before it comes."""
        more = _beyond_free(size) - self.held
        if more <= 0:
            return
        if self.gate._held + more > self.gate.budget:
            reason = f"{self.gate.budget} bytes of other requests are held already"
            raise Refused(503, reason, come_again() | {"Connection": "close"})
        self.gate._held += more
        self.held += more

    def end(self) -> None:
        self.gate._held -= self.held
        self.held = 0


def _beyond_free(size: int) -> int:
    return max(0, size - FREE_BYTES)


def _is_known(host: str, names: Collection[str]) -> bool:
    """Return whether a Host header has an address or one of the names, with any port."""
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    else:
        name = host.rpartition(":")[0] if host.count(":") == 1 else host
    if name.lower().rstrip(".") in names:
        return True
    with suppress(ValueError):
        ip_address(name)
        return True  # nobody can make an address lead elsewhere
    return False
