"""HTTP connections all of whose waiting ends at a deadline, and a pool of them."""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from queue import Empty, LifoQueue
from typing import NamedTuple

from keras_ddnn.serve.protocol.causes import NotHTTP, Unanswered
from keras_ddnn.serve.protocol.sockets import Deadline, Host, secured, trusting_context

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_ANSWER = 1 << 20  # bytes; logits need far fewer
# How a connection ends that the other side has closed.
CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Answer(NamedTuple):
    """An HTTP answer: its status, its headers by their names in lower case, its whole body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(HTTPConnection):
    """An HTTP connection all of whose waiting ends at a deadline.

    Args:
        host: To connect to.
        context: TLS context; None for plain HTTP.

    Attributes:
        deadline: To be set before each use.
    """

    def __init__(self, host: Host, context: ssl.SSLContext | None):
        super().__init__(host.name, host.port)
        self.deadline = Deadline()
        self._host, self._context = host, context
        if context:
            self.default_port = DEFAULT_PORTS["https"]

    def connect(self) -> None:
        """Connect to the first address that answers."""
        self.sock = self._host.dial(self.deadline)
        if self._context:
            self.sock = secured(self.sock, self._context, self._host.name)

    def exchange(
        self,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        on_send: Callable[[int], None] = lambda size: None,
        method: str = "POST",
    ) -> Answer:
        """Send a request that may be repeated, and return the answer.

        Raises:
            OSError, HTTPException: If there is none; the connection is then to be closed.
            ValueError: If the answer has more than `MAX_ANSWER` bytes.
        """
        reused = self.sock is not None
        try:
            return self._exchange_once(path, headers, body, on_send, method)
        except CLOSED:
            # The cloud may have closed a connection that lay idle, or been started again. To ask
            # twice does no harm.
            if not reused:
                raise
            self.close()
            return self._exchange_once(path, headers, body, on_send, method)

    def speaks_tls(self) -> bool:
        """Return whether the other end, which answers no plain HTTP, speaks TLS."""
        with suppress(OSError, NotHTTP):
            secured(self._host.dial(self.deadline), trusting_context(), self._host.name).close()
            return True
        return False

    def _exchange_once(self, path, headers, body, on_send, method):
        if self.sock is None:
            self.connect()
        address = self.sock.address
        try:
            # Who refuses a request need not read its body, but may have said why.
            with suppress(*CLOSED):
                self.request(method, path, body, headers)
                on_send(len(body))
            response = self.getresponse()
            answer = response.read(MAX_ANSWER + 1)
        except OSError:
            self._host.failed(address)
            raise
        self._host.answered(address)
        if len(answer) > MAX_ANSWER:
            raise ValueError(f"expected an answer of at most {MAX_ANSWER} bytes; received more")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, answer)


class Pool:
    """At most so many connections at a time, for threads to share.

    Args:
        make: Returns a connection that is not open yet.
        size: How many.
    """

    def __init__(self, make: Callable[[], Connection], size: int):
        self._size, self._closed = size, False
        self._idle: LifoQueue[Connection] = LifoQueue()
        for _ in range(size):
            self._idle.put(make())

    @contextmanager
    def lend(self, deadline: float) -> Iterator[Connection]:
        """Yield the connection used last of those that are free; an exception closes it.

        Args:
            deadline: Deadline, of the connection too, by `time.monotonic`.

        Raises:
            Unanswered: If none is free by then.
        """
        try:
            connection = self._idle.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            reason = f"all of {self._size} connections were in use until the deadline"
            raise Unanswered(reason, "no-time") from None
        connection.deadline.at = deadline
        try:
            yield connection
        except BaseException:
            connection.close()  # half an answer may be left in it
            raise
        finally:
            self._idle.put(connection)
            if self._closed:
                self.close()

    def close(self) -> None:
        """Close all connections, those in use once they are answered."""
        self._closed = True
        idle = []
        with suppress(Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for connection in idle:
            connection.close()
            self._idle.put(connection)
