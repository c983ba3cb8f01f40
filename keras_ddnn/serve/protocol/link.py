"""The device's line to the cloud: a pool of connections, one deadline a request, a breaker."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from keras_ddnn.files.checks import require_count
from keras_ddnn.serve.protocol.breaker import Breaker, State
from keras_ddnn.serve.protocol.causes import CAUSES, NotHTTP, Unanswered, failure, refusal
from keras_ddnn.serve.protocol.connection import CLOSED, DEFAULT_PORTS, Answer, Connection, Pool
from keras_ddnn.serve.protocol.sockets import Host, tls_context

__all__ = ["CAUSES", "CloudLink", "Unanswered"]

Result = TypeVar("Result")

PATH = "/v2/models/ddnn/infer"
EXPECTED = "the URL of a service must be http(s)://host[:port]"
CONNECTIONS = 8
log = logging.getLogger(__name__)


class CloudLink:
    """Sends requests to a cloud service; threads may share it.

    Each thread waits by its own deadline; all of them share the connections and the breaker, see
    `Breaker`: after `failures` requests in a row without a usable answer, or when the cloud is
    busy, further ones fail at once.

    Args:
        url: "http://host:port" or "https://host:port", perhaps with a path that the protocol's own
            paths follow. A slash at its end is left out.
        token: Sent as a bearer token; None for none. It is said once, in the log, if it travels
            unencrypted to another machine.
        failures: In a row, at least 1.
        rest: Seconds, above 0, until a cloud that does not answer is tried again.
        on_send: Called with the length of each request body that is sent, by any thread.
        ca: A PEM file; the service's certificate must be signed by one of these alone. None for
            those that the system trusts.
        connections: At most, at a time.
        clock: Clock of the breaker; seconds that never run back.

    Raises:
        ValueError: If an argument is of another form.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        failures: int = 3,
        rest: float = 1.0,
        on_send: Callable[[int], None] = lambda size: None,
        *,
        ca: Path | str | None = None,
        connections: int = CONNECTIONS,
        clock: Callable[[], float] = time.monotonic,
    ):
        require_count(connections=connections)
        line = line_to(url, token, ca)
        self._headers, self._secure = line.headers, line.secure
        self._path = line.path + PATH
        self._probed = False
        self._on_send = on_send
        self._pool = Pool(line.connection, connections)
        self._breaker = Breaker(failures, rest, clock)

    @property
    def state(self) -> State:
        """State of the breaker: "closed" while all is well, "open" or "half-open"."""
        return self._breaker.state

    def ask(
        self,
        headers: Mapping[str, str],
        body: bytes,
        deadline: float,
        read: Callable[[Mapping[str, str], bytes], Result],
    ) -> Result:
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
            raise Unanswered("there was no time left to ask", "no-time")
        return self._breaker.call(
            partial(self._ask, {**headers, **self._headers}, body, deadline, read)
        )

    def close(self) -> None:
        """Close the connections, those in use once they are answered."""
        self._pool.close()

    def _ask(self, headers, body, deadline, read):
        try:
            with self._pool.lend(deadline) as connection:
                answer = self._exchange(connection, headers, body)
            if answer.status != 200:
                raise refusal(*answer)
            return read(answer.headers, answer.body)
        except (OSError, HTTPException, ValueError) as error:
            raise failure(error) from error

    def _exchange(self, connection, headers, body) -> Answer:
        try:
            return connection.exchange(self._path, headers, body, self._on_send)
        except ConnectionRefusedError:
            raise
        except CLOSED as error:
            # A port of HTTPS hangs up on plain HTTP without a word.
            if not self._secure and not self._probed:
                self._probed = True
                if connection.speaks_tls():
                    self._probed = False
                    raise NotHTTP("the port speaks TLS: write https in the URL") from error
            raise


class Url(NamedTuple):
    """The parts of a service's URL."""

    secure: bool
    host: str
    port: int
    path: str  # without a slash at its end


class Line(NamedTuple):
    """How a service is reached.

    Attributes:
        connection: Makes a connection that is not open yet.
        headers: Of each request; they carry the token.
        path: That the protocol's own paths follow, without a slash at its end.
        secure: Whether it is https.
    """

    connection: Callable[[], Connection]
    headers: dict[str, str]
    path: str
    secure: bool


def line_to(url: str, token: str | None = None, ca: Path | str | None = None) -> Line:
    """Return how a service is reached; a token that travels unencrypted is said in the log.

    Args:
        url: See `read_url`.
        token: Of the service; None for none.
        ca: A PEM file of those who may sign its certificate; None for those the system trusts.

    Raises:
        ValueError: If an argument is of another form, or `ca` is given and the URL is not https.
    """
    parts = read_url(url)
    if ca is not None and not parts.secure:
        raise ValueError(f"expected an https URL with a file of CAs; received {url!r}")
    headers = authorization(token)
    if token is not None and not parts.secure and not _is_loopback(parts.host):
        log.warning("the token travels unencrypted to %s: use https", parts.host)
    context = tls_context(ca) if parts.secure else None
    connection = partial(Connection, Host(parts.host, parts.port), context)
    return Line(connection, headers, parts.path, parts.secure)


def read_url(url: str) -> Url:
    """Return the parts of "http(s)://host[:port]", perhaps with a path.

    Raises:
        ValueError: If it is something else.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"{EXPECTED}; received {url!r}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{EXPECTED}; received one with credentials: use a token instead")
    try:
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
        host = parts.hostname.encode("idna").decode()
    except (AttributeError, KeyError, ValueError):
        raise ValueError(f"{EXPECTED}; received {url!r}") from None
    if not port or not re.fullmatch(r"[!-~]+", host) or not re.fullmatch(r"[!-~]*", parts.path):
        raise ValueError(f"{EXPECTED}; received {url!r}")
    if parts.query or parts.fragment:
        raise ValueError(f"{EXPECTED}, without ? and #; received {url!r}")
    path = parts.path.rstrip("/")
    if "v2" in path.split("/"):
        raise ValueError(f"{EXPECTED}, without /v2, which is added; received {url!r}")
    return Url(parts.scheme == "https", host, port, path)


def authorization(token: str | None) -> dict[str, str]:
    """Return the header that carries a token; none for None.

    Raises:
        ValueError: If no header can carry it.
    """
    if token is None:
        return {}
    if not token.strip():
        raise ValueError("expected a token; received an empty one")
    if token != token.strip():
        raise ValueError("a token must neither begin nor end with white space")
    wrong = re.search(r"[^ -~]", token)
    if wrong:  # of a secret, no more is told than what is wrong
        raise ValueError(
            f"a token must consist of printable ASCII characters; received U+{ord(wrong[0]):04X} "
            f"at place {wrong.start() + 1}"
        )
    return {"Authorization": f"Bearer {token}"}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
