"""Crowds of connections and requests neither starve honest clients nor fill the memory or log."""

import http.client
import logging
import resource
import socket
import ssl
import threading
import time
from contextlib import ExitStack, contextmanager
from select import select

import numpy as np
import pytest
from certificates import make_certificate
from toy_service import INFER, Server, app_of, served_network

from keras_ddnn.serve.cloud import listening
from keras_ddnn.serve.cloud.gate import GateLimits
from keras_ddnn.serve.cloud.logs import RepeatFilter
from keras_ddnn.serve.protocol.wire import Tensor, encode

FEATURES = np.arange(24, dtype=np.float16).reshape(2, 2, 2, 3)
SOON = 0.2  # seconds a connection may be silent
PATIENCE = 5.0


def request(body_bytes=None):
    """Return the bytes of a request, with as many zeros for a body if asked."""
    headers, body = encode([Tensor("features", FEATURES)])
    body = body if body_bytes is None else bytes(body_bytes)
    lines = headers | {"Host": "localhost", "Content-Length": len(body)}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {INFER} HTTP/1.1\r\n{head}\r\n".encode(), body


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def answer(line):
    """Read one answer; return its status and its headers."""
    response = http.client.HTTPResponse(line)
    response.begin()
    response.read()
    return response.status, response.headers


def ask(line):
    line.sendall(b"".join(request()))
    return answer(line)[0]


def closed(line):
    """Wait until the other side has closed a connection."""
    try:
        return line.recv(1) == b""
    except ConnectionResetError:
        return True


def still_open(line):
    line.setblocking(False)
    try:
        line.recv(1)
    except BlockingIOError:
        return True
    return False


def is_given_up(line, piece, pause):
    """Send a piece again and again, until the other side has closed the connection."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            line.sendall(piece)
        except ConnectionError:
            return True
        time.sleep(pause)
    return False


def test_a_connection_that_asks_nothing_is_closed():
    with Server(app_of(), header_seconds=SOON) as port, connect(port) as line:
        begin = time.monotonic()
        assert closed(line)
        assert time.monotonic() - begin >= SOON


def test_a_header_that_drips_is_given_up_after_a_first_request_too():
    with Server(app_of(), header_seconds=SOON) as port, connect(port) as line:
        assert ask(line) == 200
        assert is_given_up(line, b"P", SOON / 10)


def test_who_does_not_take_the_answers_is_closed():
    with Server(app_of(), header_seconds=SOON) as port, socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", port))
        line.settimeout(PATIENCE)
        assert is_given_up(line, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 100, 0.0)


def test_a_new_connection_takes_the_place_of_the_one_that_was_silent_longest():
    with Server(app_of(), most=8) as port, ExitStack() as stack:
        asked = stack.enter_context(connect(port))
        assert ask(asked) == 200
        silent = []
        for _ in range(7):
            silent.append(stack.enter_context(connect(port)))
            time.sleep(0.02)
        for replaced in silent[:3]:
            assert ask(stack.enter_context(connect(port))) == 200
            assert closed(replaced)
        assert all(still_open(line) for line in silent[3:])
        assert ask(asked) == 200


def test_more_connections_than_there_may_be_cost_no_honest_request():
    with Server(app_of(), most=8) as port, ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(connect(port))
            with connect(port) as line:
                assert ask(line) == 200


def test_https_serves_and_gives_up_who_does_not_shake_hands(tmp_path):
    paths = make_certificate(tmp_path)
    client = ssl.create_default_context(cafile=paths[0])
    tls = listening.tls_context(*paths)
    with Server(app_of(), header_seconds=SOON, most=2, tls=tls) as port:
        with connect(port) as silent, connect(port) as line:
            with client.wrap_socket(line, server_hostname="127.0.0.1") as line:
                assert ask(line) == 200
            assert closed(silent)
        with ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(connect(port))
            line = stack.enter_context(connect(port))
            with client.wrap_socket(line, server_hostname="127.0.0.1") as line:
                assert ask(line) == 200


@contextmanager
def full_service(**options):
    """Serve with a queue that is full until the end; yield the port."""
    release = threading.Event()

    def network(features):
        assert release.wait(PATIENCE)
        return served_network(features)

    with Server(app_of(network, max_queue=2, **options)) as port, ExitStack() as stack:
        for _ in range(2):
            line = stack.enter_context(connect(port))
            line.sendall(b"".join(request()))
            time.sleep(0.05)
        try:
            yield port
        finally:
            release.set()
        assert answer(line)[0] == 200


def test_a_full_queue_refuses_before_the_body_is_sent():
    with full_service() as port:
        waits = set()
        for _ in range(30):
            with connect(port) as line:
                line.sendall(request(1000)[0])
                status, headers = answer(line)
            assert status == 503
            waits.add(headers["Retry-After"])
        assert waits == {"1", "2", "3"}


def test_who_comes_back_at_once_over_the_same_connection_waits():
    with full_service(limits=GateLimits(hold_seconds=SOON)) as port, connect(port) as line:
        assert ask(line) == 503
        begin = time.monotonic()
        assert ask(line) == 503
        assert time.monotonic() - begin >= SOON / 2


def test_of_more_refusals_than_may_be_told_the_newest_is_told_first():
    with full_service(limits=GateLimits(refusals_per_second=4.0)) as port, ExitStack() as stack:
        lines = [stack.enter_context(connect(port)) for _ in range(12)]
        for line in lines:
            line.sendall(b"".join(request()))
            time.sleep(0.01)
        told, begin = [], time.monotonic()
        while len(told) < 11:
            assert time.monotonic() < begin + PATIENCE / 2
            told += [line for line in select(lines, [], [], 0.01)[0] if line not in told]
        assert time.monotonic() - begin >= 0.3  # nine at once, and four a second
        assert told[9:11] == [lines[11], lines[10]]


@pytest.mark.parametrize("chunked", [False, True])
def test_long_bodies_together_are_bounded(chunked):
    long, limits = 250_000, GateLimits(budget=300_000)
    with (
        Server(app_of(max_bytes=long, limits=limits)) as port,
        connect(port) as first,
        connect(port) as second,
    ):
        first.sendall(request(long)[0] + bytes(long - 1))
        time.sleep(0.1)
        if chunked:
            head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            second.sendall(head.encode() + b"%x\r\n" % long + bytes(long) + b"\r\n0\r\n\r\n")
        else:
            second.sendall(request(long)[0])
        status, headers = answer(second)
        assert status == 503
        assert headers["Retry-After"]
        with connect(port) as honest:
            assert ask(honest) == 200  # a short one needs nothing of the budget
        first.sendall(b"\0")
        assert answer(first)[0] == 400
        with connect(port) as third:
            third.sendall(b"".join(request(long)))
            assert answer(third)[0] == 400


def test_who_sends_all_of_a_long_body_first_can_read_that_it_is_too_long():
    with Server(app_of(max_bytes=8 << 20)) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        client.request("POST", INFER, bytes(24 << 20))
        assert client.getresponse().status == 413
        client.close()


def test_a_failure_that_repeats_is_logged_once_and_then_counted():
    records, repeats = [], RepeatFilter(0.05)
    for wait in (0.0, 0.0, 0.0, 0.1):
        time.sleep(wait)
        record = logging.LogRecord("a", logging.ERROR, "", 0, "no room for %d", (7,), None)
        if repeats.filter(record):
            records.append(record.getMessage())
    assert records == ["no room for 7", "no room for 7 (and 2 times before)"]


@pytest.mark.parametrize(
    ("limits", "room"), [((1024, 4096), 2048), ((1024, 1024), 640), ((9000, 9000), 2048)]
)
def test_connections_leave_some_descriptors_free(monkeypatch, limits, room):
    raised = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: raised.append(pair))
    assert listening.room_for_connections(2048) == room
    assert raised in ([], [(1024, 1024)], [(2432, 4096)])
