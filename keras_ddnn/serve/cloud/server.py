"""The HTTP server: uvicorn, with bounds on what a crowd of connections can take.

uvicorn alone waits for ever for the first header of a connection, and its `limit_concurrency`
answers good requests with 503 while connections that ask nothing fill it. Both are mended in a
subclass of its protocol class, which is a parameter of uvicorn. Another server would need the same
lines, for what is wanted is not only a limit of time: a new connection takes the place of the one
that has been silent longest.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from itertools import islice

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 2048
HEADER_SECONDS = 10.0  # that a client may take to send a header, or to take an answer
SHUTDOWN_SECONDS = 30
BACKLOG = 2048  # connections that the kernel keeps until they are accepted
ACCEPTED_AT_ONCE = 64  # connections, before others have their turn
CLOSED_AT_ONCE = 16
SWEEP_SECONDS = 0.01
CHUNK = 64 << 10  # bytes that are read of a connection at a time

NEW, IDLE, STUCK = range(3)  # never asked; between two requests; does not take its answer


class Crowd:
    """The connections of a server, bounded in number and in the time that they may be silent.

    A connection that comes when `most` are open takes the place of the one that has been silent
    longest: of those that never asked, else of those between two requests. It is closed itself only
    where all are at work. Those whose time is over are closed a few at a time, so that a crowd that
    comes back at once holds up nobody.

    Args:
        most: Connections.
        seconds: Seconds that one may be silent.
    """

    def __init__(self, most: int, seconds: float):
        self.most, self.seconds = most, seconds
        self._open: set = set()
        self._silent: tuple[dict, ...] = ({}, {}, {})  # by kind: since when; the longest first
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, connection) -> None:
        """Take in a new connection, which has an `abort()`, and make room for it."""
        self._open.add(connection)
        if len(self._open) > self.most:
            longest = next((next(iter(kind)) for kind in self._silent if kind), connection)
            log.warning("%d connections are open: the longest silent is closed", self.most)
            self._close(longest)
            if longest is connection:
                return
        self.waits(connection, NEW)

    def leave(self, connection) -> None:
        """Forget a connection that has ended."""
        self._open.discard(connection)
        for kind in range(len(self._silent)):
            self.works(connection, kind)

    def waits(self, connection, kind: int) -> None:
        """Count the time of a connection from now."""
        if connection in self._open:
            self._silent[kind][connection] = time.monotonic()
            if self._timer is None:
                self._sweep_in(self.seconds)

    def works(self, connection, *kinds: int) -> None:
        """Count the time of a connection no longer."""
        for kind in kinds:
            self._silent[kind].pop(connection, None)

    def _close(self, connection) -> None:
        self.leave(connection)
        connection.abort()

    def _sweep_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        end = time.monotonic() - self.seconds
        late = [
            connection
            for kind in self._silent
            for connection, since in islice(kind.items(), CLOSED_AT_ONCE)
            if since <= end
        ]
        for connection in late[:CLOSED_AT_ONCE]:
            log.warning("a connection is closed: nothing came in %g s", self.seconds)
            self._close(connection)
        firsts = [since for kind in self._silent for since in islice(kind.values(), 1)]
        self._timer = None
        if firsts:
            self._sweep_in(max(SWEEP_SECONDS, min(firsts) - end))


class _Connection(H11Protocol):
    """One connection of a crowd."""

    crowd: Crowd

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        transport.max_size = CHUNK  # of asyncio's own transports; others have other limits
        self.crowd.enter(self)

    def connection_lost(self, exc) -> None:
        self.crowd.leave(self)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:  # a header has come
            self.crowd.works(self, NEW, IDLE)
        if self.cycle and self.cycle.more_body and not self.cycle.response_complete:
            # The rest of a body is read when the application asks for it, not before.
            self.flow.pause_reading()

    def on_response_complete(self) -> None:
        self.crowd.waits(self, IDLE)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.crowd.waits(self, STUCK)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.crowd.works(self, STUCK)

    def abort(self) -> None:
        self.transport.abort()


class _Door(asyncio.Protocol):
    """A connection until it is encrypted; asyncio's own server would wait for that uncounted."""

    def __init__(self, crowd: Crowd, tls: ssl.SSLContext, inside: Callable[[], asyncio.Protocol]):
        self.crowd, self.tls, self.inside = crowd, tls, inside
        self._early = []
        self._transport = None

    def connection_made(self, transport) -> None:
        transport.pause_reading()
        self._transport = transport
        self.crowd.enter(self)
        self._task = asyncio.ensure_future(self._shake_hands(transport))

    def data_received(self, data: bytes) -> None:
        self._early.append(data)  # decrypted: before the task below goes on

    def connection_lost(self, exc) -> None:
        self.crowd.leave(self)

    def abort(self) -> None:
        self._transport.abort()
        self._task.cancel()

    async def _shake_hands(self, transport) -> None:
        loop, seconds = asyncio.get_running_loop(), self.crowd.seconds
        try:
            encrypted = await loop.start_tls(
                transport, self, self.tls, server_side=True, ssl_handshake_timeout=seconds
            )
        except OSError:  # of ssl too
            transport.abort()
            return
        finally:
            self.crowd.leave(self)
        protocol = self.inside()
        encrypted.set_protocol(protocol)
        protocol.connection_made(encrypted)
        for data in self._early:
            protocol.data_received(data)


class _Server(uvicorn.Server):
    """A server that accepts a few connections at a time, and lets the kernel keep the others."""

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)


def server_of(
    app: ASGIApp,
    *,
    most: int = MAX_CONNECTIONS,
    header_seconds: float = HEADER_SECONDS,
    tls: ssl.SSLContext | None = None,
) -> uvicorn.Server:
    """Return a server, to be run by `run(sockets=[listener])`; see `listening.bound_socket`.

    Args:
        app: What it serves.
        most: Connections at a time; see `Crowd`.
        header_seconds: That a client may take to send a header, or to take an answer.
        tls: For https; see `keras_ddnn.serve.cloud.listening`.
    """
    crowd = Crowd(most, header_seconds)
    connection = type("Connection", (_Connection,), {"crowd": crowd})

    def protocol(**options) -> asyncio.Protocol:
        return _Door(crowd, tls, lambda: connection(**options)) if tls else connection(**options)

    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="asyncio",
        backlog=ACCEPTED_AT_ONCE,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return _Server(config)
