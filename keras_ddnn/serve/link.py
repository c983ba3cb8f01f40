"""The device's line to the cloud: one connection, one deadline a request, a circuit breaker."""

import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from threading import Thread
from urllib.parse import urlsplit

from pybreaker import CircuitBreaker, CircuitBreakerError

from keras_ddnn.serve.causes import CAUSES, Unanswered

__all__ = ["CAUSES", "CloudLink", "Unanswered"]

PATH = "/v2/models/ddnn/infer"
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_ANSWER = 1 << 20  # bytes; logits need far fewer


class CloudLink:
    """Sends requests to a cloud service; not to be shared by threads.

    After `failures` requests in a row without a usable answer, further ones fail at once; every
    `rest` seconds one is let through to see whether the cloud is back.

    Args:
        url: "http://host:port" or "https://host:port".
        token: Sent as a bearer token; None for none.
        failures: In a row, at least 1.
        rest: Seconds, above 0.
        on_send: Called with the length of each request body that is sent.

    Raises:
        ValueError: If the URL is of another form.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        failures: int = 3,
        rest: float = 1.0,
        on_send: Callable[[int], None] = lambda size: None,
    ):
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"the cloud's URL must be http(s)://host[:port]; received {url!r}")
        self._path = parts.path.rstrip("/") + PATH
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        secure = parts.scheme == "https"
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        self._on_send = on_send
        self._connection = _Connection(parts.hostname, port, secure)
        self._breaker = CircuitBreaker(failures, rest, throw_new_error_on_trip=False)

    @property
    def state(self) -> str:
        """Of the breaker: "closed" while all is well, "open" or "half-open"."""
        return self._breaker.current_state

    def ask(self, headers: dict, body: bytes, deadline: float, read):
        """Send a request and return what `read(headers, body)` makes of the answer.

        Args:
            headers: HTTP headers.
            body: The request.
            deadline: By `time.monotonic`, for all of it: a server that sends a byte now and then
                gains no time.
            read: Raises ValueError for an answer that cannot be used, which counts as a failure of
                the cloud.

        Raises:
            Unanswered: For whatever reason there is no answer.
        """
        if deadline <= time.monotonic():
            raise Unanswered(
                "there was no time left to ask", "no-time"
            )  # which is not the cloud's failure
        try:
            return self._breaker.call(self._ask, headers | self._headers, body, deadline, read)
        except CircuitBreakerError as error:
            raise Unanswered("the circuit breaker is open", "circuit-open") from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _ask(self, headers, body, deadline, read):
        self._connection.deadline = deadline
        try:
            try:
                return read(*self._exchange(headers, body))
            except ConnectionError:
                # The cloud may have closed a connection that lay idle, or been started again. To
                # ask twice does no harm.
                if not self._connection.reused:
                    raise
                self._connection.close()
                return read(*self._exchange(headers, body))
        except (OSError, HTTPException, ValueError) as error:
            self._connection.close()
            raise Unanswered(f"{type(error).__name__}: {error}", "connection") from error
        except BaseException:
            self._connection.close()  # half an answer may be left in it
            raise

    def _exchange(self, headers, body):
        connection = self._connection
        connection.reused = connection.sock is not None
        connection.request("POST", self._path, body, headers)
        self._on_send(len(body))
        response = connection.getresponse()
        answer = response.read(MAX_ANSWER + 1)
        if response.status != 200:
            raise ValueError(f"HTTP {response.status}: {answer[:200].decode(errors='replace')}")
        if len(answer) > MAX_ANSWER:
            raise ValueError(f"expected an answer of at most {MAX_ANSWER} bytes; received more")
        return dict(response.headers), answer


class _Connection(HTTPConnection):
    """An HTTP connection all of whose waiting ends at `deadline`.

    Attributes:
        deadline: By `time.monotonic`.
        reused: Whether it was open before the latest request.
    """

    deadline = float("inf")
    reused = False

    def __init__(self, host, port, secure):
        super().__init__(host, port)
        self._context = ssl.create_default_context() if secure else None
        if secure:
            self.default_port = DEFAULT_PORTS["https"]
            self._context.sslsocket_class = _TimedSSLSocket

    def connect(self):
        """Connect to the first address that answers."""
        failure = OSError(f"{self.host} has no address")
        for family, kind, protocol, _, address in self._addresses():
            sock = _TimedSocket(family, kind, protocol)
            sock.connection = self
            try:
                sock.settimeout(self.left())
                sock.connect(address)
                # Headers and body are two writes: the second must not wait for the first's receipt.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.sock = self._secured(sock)
                return
            except OSError as error:
                sock.close()
                failure = error
        raise failure

    def left(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: If there are none.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer within the deadline")
        return left

    def _secured(self, sock):
        if self._context is None:
            return sock
        secured = self._context.wrap_socket(
            sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        secured.connection = self
        secured.settimeout(self.left())
        secured.do_handshake()
        return secured

    def _addresses(self):
        look_up = partial(socket.getaddrinfo, self.host, self.port, type=socket.SOCK_STREAM)
        with suppress(socket.gaierror):
            return look_up(flags=socket.AI_NUMERICHOST)  # an address needs no look-up
        # A name server that does not answer would hold us up for longer than any deadline.
        return _in_background(look_up).result(self.left())


def _in_background(function) -> Future:
    """Return the result to come of a function that may take for ever."""
    future = Future()

    def run():
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


class _Timed:
    """Gives each read and write of a socket what is left of the deadline of its connection."""

    connection: _Connection

    def recv_into(self, *args):
        self.settimeout(self.connection.left())
        return super().recv_into(*args)

    def sendall(self, *args):
        self.settimeout(self.connection.left())
        return super().sendall(*args)


class _TimedSocket(_Timed, socket.socket):
    pass


class _TimedSSLSocket(_Timed, ssl.SSLSocket):
    pass
