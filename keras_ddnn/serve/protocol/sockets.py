"""Sockets to a host: to the first of its addresses that answers, and never past a deadline."""

import errno
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from selectors import EVENT_WRITE, DefaultSelector
from threading import Thread
from typing import TypeVar

from keras_ddnn.serve.protocol.causes import NotHTTP

Found = TypeVar("Found")

STAGGER = 0.25  # seconds at most that an address has for itself, as RFC 8305 proposes
UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)


class Deadline:
    """When all waiting ends.

    Attributes:
        at: By `time.monotonic`.
    """

    at = float("inf")

    def left(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: If there are none.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer within the deadline")
        return left


class Host:
    """A host and what is known of its addresses; threads may share it.

    An address that did not answer is tried last the next time, so that a silent one costs its share
    of a deadline only once.

    Args:
        name: Name of the host, or its address.
        port: Port of the service.
    """

    def __init__(self, name: str, port: int):
        self.name, self.port = name, port
        self._failed: dict[tuple, float] = {}  # an address -> when it failed last

    def failed(self, address: tuple) -> None:
        """Note that an address has not answered."""
        self._failed[address] = time.monotonic()

    def answered(self, address: tuple) -> None:
        """Note that an address has answered."""
        self._failed.pop(address, None)

    def dial(self, deadline: Deadline) -> "TimedSocket":
        """Return a socket connected to the first address that answers.

        An address that is silent does not hold up the next one for long; see RFC 8305.

        Raises:
            OSError: If none does, or none is known.
        """
        waiting, begun = deque(self._addresses(deadline)), []
        stagger = min(STAGGER, deadline.left() / len(waiting))
        with DefaultSelector() as selector:
            try:
                while True:
                    if waiting:
                        try:
                            begun.append(self._begin(deadline, *waiting.popleft()))
                        except OSError:
                            if not (waiting or begun):
                                raise
                            continue
                        selector.register(begun[-1], EVENT_WRITE)
                    left = deadline.left()
                    for key, _ in selector.select(min(stagger, left) if waiting else left):
                        sock = key.fileobj
                        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                        if not code:
                            return self._chosen(sock, begun)
                        selector.unregister(sock)
                        begun.remove(sock)
                        sock.close()
                        self.failed(sock.address)
                        if not (waiting or begun):
                            raise _error(code)
            finally:
                for sock in begun:
                    sock.close()

    def _addresses(self, deadline):
        """Return what `socket.getaddrinfo` does, the most promising address first."""
        look_up = partial(socket.getaddrinfo, self.name, self.port, type=socket.SOCK_STREAM)
        try:
            found = look_up(flags=socket.AI_NUMERICHOST)  # an address needs no look-up
        except socket.gaierror:
            try:
                # getaddrinfo has no timeout; run it in a thread.
                found = _in_background(look_up).result(deadline.left())
            except TimeoutError:
                raise TimeoutError(f"the address of {self.name} was not found in time") from None
        return sorted(found, key=lambda info: self._failed.get(info[-1], 0.0))

    def _begin(self, deadline, family, kind, protocol, _, address):
        sock = TimedSocket(family, kind, protocol)
        sock.deadline, sock.address = deadline, address
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code not in UNDER_WAY:
            sock.close()
            self.failed(address)
            raise _error(code)
        return sock

    def _chosen(self, sock, begun):
        for earlier in begun[: begun.index(sock)]:
            self.failed(earlier.address)
        # Headers and body are two writes: the second must not wait for the first's receipt.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(sock.deadline.left())
        begun.remove(sock)
        return sock


def tls_context(ca: Path | str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the certificates in a file, or those that the system trusts.

    Raises:
        ValueError: If the file cannot be read, or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # an SSLError is one too
        raise ValueError(f"expected a PEM file of certificates; received {ca}: {error}") from None
    context.sslsocket_class = _TimedSSLSocket
    return context


def trusting_context() -> ssl.SSLContext:
    """Return a context that takes every certificate; no secret must be sent through it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslsocket_class = _TimedSSLSocket
    return context


def secured(sock: "TimedSocket", context: ssl.SSLContext, name: str) -> "_TimedSSLSocket":
    """Return a socket that speaks TLS with the host of this name, in place of `sock`.

    Raises:
        NotHTTP: If the other end does not speak it.
        OSError: If its certificate is refused, or the connection fails.
    """
    deadline, address = sock.deadline, sock.address
    secure = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
    secure.deadline, secure.address = deadline, address
    try:
        secure.settimeout(deadline.left())
        secure.do_handshake()
    except OSError as error:
        secure.close()
        # A bad certificate and a closed connection have types of their own.
        if type(error) is ssl.SSLError:
            raise NotHTTP(f"the port does not speak TLS as expected: {error}") from error
        raise
    return secure


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def _in_background(function: Callable[[], Found]) -> "Future[Found]":
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
    """Gives each read and write of a socket what is left until its deadline."""

    deadline: Deadline
    address: tuple

    def recv_into(self, *args):
        self.settimeout(self.deadline.left())
        return super().recv_into(*args)

    def sendall(self, *args):
        self.settimeout(self.deadline.left())
        return super().sendall(*args)


class TimedSocket(_Timed, socket.socket):
    """A TCP socket with a deadline."""


class _TimedSSLSocket(_Timed, ssl.SSLSocket):
    pass
