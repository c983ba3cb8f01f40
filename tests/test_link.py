"""The device's line to the cloud: threads share it, it is in time, and it says what went wrong."""

import ast
import json
import logging
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier, Event

import pytest
from certificates import make_certificate
from fault_server import FaultServer
from toy_service import Server, app_of

from keras_ddnn.serve.gateway.camera import Camera
from keras_ddnn.serve.protocol.breaker import JITTER, LONGEST_REST, Breaker
from keras_ddnn.serve.protocol.causes import CAUSES, LASTING
from keras_ddnn.serve.protocol.link import CloudLink, Unanswered
from keras_ddnn.serve.protocol.wire import encode

ROOT = Path(__file__).parent.parent
PATIENT = 10.0  # seconds, where nothing is about time
OK = "200 OK"


def answer(status, body=b"", headers=()):
    """Return the bytes of an HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answering(*args, **kwargs):
    """Return a fault that answers every request so."""

    def fault(server, sock, headers, body):
        sock.sendall(answer(*args, **kwargs))
        return True

    return fault


def echo(server, sock, headers, body):
    """Send a body back."""
    sock.sendall(answer(OK, body))
    return True


def hang(server, sock, headers, body):
    """Say nothing."""
    server.wait()


def ask(link, body=b"hello", seconds=PATIENT):
    return link.ask({}, body, time.monotonic() + seconds, lambda headers, body: body)


def unanswered(link, **kwargs):
    """Return why there is no answer."""
    with pytest.raises(Unanswered) as caught:
        ask(link, **kwargs)
    assert caught.value.cause in CAUSES
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self):
        return self.now


# ---- threads


def test_threads_that_share_a_link_get_their_own_answers():
    with FaultServer(echo) as server, ThreadPoolExecutor(16) as pool:
        link = CloudLink(server.url, connections=4)
        bodies = [f"{k}".encode() * 1000 for k in range(400)]
        assert list(pool.map(lambda body: ask(link, body), bodies)) == bodies
        assert len(server._open) <= 4
        link.close()


def test_each_thread_waits_by_its_own_deadline():
    def fault(server, sock, headers, body):
        return hang(server, sock, headers, body) if body == b"hang" else echo(None, sock, {}, body)

    with FaultServer(fault) as server, ThreadPoolExecutor(2) as pool:
        link = CloudLink(server.url)
        patient = pool.submit(unanswered, link, body=b"hang", seconds=1.0)
        hasty = pool.submit(unanswered, link, body=b"hang", seconds=0.1)
        assert hasty.result().cause == "time-out"
        assert not patient.done()
        assert ask(link) == b"hello"
        assert patient.result().cause == "time-out"


def test_a_request_that_finds_no_free_connection_is_not_held_against_the_cloud():
    with FaultServer(hang) as server, ThreadPoolExecutor(1) as pool:
        link = CloudLink(server.url, failures=1, connections=1)
        first = pool.submit(unanswered, link, seconds=0.5)
        while not server.requests:
            time.sleep(0.001)
        assert unanswered(link, seconds=0.05).cause == "no-time"
        assert link.state == "closed"
        assert first.result().cause == "time-out"


def test_a_restart_of_the_cloud_costs_none_of_the_idle_connections_a_request():
    together = Barrier(4)

    def fault(server, sock, headers, body):
        together.wait(PATIENT)
        return echo(server, sock, headers, body)

    with ThreadPoolExecutor(4) as pool, FaultServer(fault) as server:
        link = CloudLink(server.url)
        list(pool.map(lambda _: ask(link), range(4)))
        assert len(server._open) == 4
        server.close()
        with FaultServer(fault, port=server.port):
            assert list(pool.map(lambda _: ask(link), range(4))) == [b"hello"] * 4


def test_a_closed_link_leaves_no_connection_open():
    with FaultServer(echo) as server:
        link = CloudLink(server.url)
        ask(link)
        link.close()
        (sock,) = server._open
        deadline = time.monotonic() + PATIENT
        while sock.fileno() != -1:  # the server sees its end, and closes it too
            assert time.monotonic() < deadline
            time.sleep(0.001)


# ---- clocks

SET_BACK = """
import datetime, sys, time

shift = 0.0

class Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=shift)

    @classmethod
    def utcnow(cls):
        return super().utcnow() + datetime.timedelta(seconds=shift)

datetime.datetime, wall = Datetime, time.time
time.time = lambda: wall() + shift
sys.path.insert(0, sys.argv[1])

from fault_server import FaultServer
from keras_ddnn.serve.protocol.link import CloudLink, Unanswered

def ask():
    link.ask({}, b"", time.monotonic() + 10, lambda headers, body: body)

with FaultServer("error_500") as server:
    link = CloudLink(server.url, None, 1, 0.05)
    try:
        ask()
    except Unanswered:
        pass
    assert link.state == "open"
    shift = -3600.0
    server.fault = lambda server, sock, *_: sock.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    time.sleep(0.1)
    ask()
    print(link.state)
"""


def test_a_clock_set_back_does_not_keep_a_device_from_a_healthy_cloud():
    command = [sys.executable, "-c", SET_BACK, str(ROOT / "tests")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr.splitlines()[-1]
    assert run.stdout == "closed\n"


WALL_CLOCKS = {"time": {"time", "time_ns", "localtime", "gmtime"}, "datetime": {"now", "utcnow"}}


def wall_clocks(path):
    """Return the lines of a file that read a clock which people set."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name | ast.Attribute)
        and node.attr in WALL_CLOCKS.get(getattr(node.value, "id", None) or node.value.attr, ())
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "keras_ddnn" / "serve").glob("*.py")), ids=str)
def test_nothing_that_serves_reads_a_clock_that_people_set(path):
    assert wall_clocks(path) == []


# ---- breaker


def fail(cause="server-error", rest=None):
    raise Unanswered("oops", cause, rest)


def fail_times(breaker, times, cause="server-error", rest=None):
    for _ in range(times):
        with pytest.raises(Unanswered, match="oops"):
            breaker.call(lambda: fail(cause, rest))


def refused_at_once(breaker):
    """Return the cause for which a request is not let through."""
    with pytest.raises(Unanswered, match="oops") as caught:
        breaker.call(lambda: pytest.fail("it was let through"))
    return caught.value.cause


def test_a_breaker_opens_after_failures_in_a_row_and_closes_with_an_answer():
    clock = Clock()
    breaker = Breaker(3, 1.0, clock)
    fail_times(breaker, 2)
    assert breaker.call(lambda: 7) == 7
    fail_times(breaker, 2)
    assert breaker.state == "closed"
    fail_times(breaker, 1)
    assert breaker.state == "open"
    clock.now = 0.99
    assert refused_at_once(breaker) == "circuit-open"
    clock.now = 1.0
    fail_times(breaker, 1)
    assert breaker.state == "open"
    assert refused_at_once(breaker) == "circuit-open"
    clock.now = 2.0
    assert breaker.call(lambda: breaker.state) == "half-open"
    assert breaker.state == "closed"


def test_only_one_request_tries_a_cloud_that_failed():
    clock, let_go = Clock(), Event()
    breaker = Breaker(1, 1.0, clock)
    fail_times(breaker, 1)
    clock.now = 1.0
    with ThreadPoolExecutor(1) as pool:
        trial = pool.submit(breaker.call, lambda: let_go.wait(PATIENT))
        while breaker.state != "half-open":
            time.sleep(0.001)
        for _ in range(5):
            assert refused_at_once(breaker) == "circuit-open"
        let_go.set()
        assert trial.result()
    assert breaker.state == "closed"


def test_a_trial_that_is_broken_off_lets_the_next_request_try():
    clock = Clock()
    breaker = Breaker(1, 1.0, clock)
    fail_times(breaker, 1)
    clock.now = 1.0
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 // 0)
    fail_times(breaker, 1, "no-time")
    assert breaker.call(lambda: 7) == 7
    assert breaker.state == "closed"


def test_what_began_before_a_breaker_opened_does_not_close_it():
    breaker = Breaker(1, 1.0, Clock())
    breaker.call(lambda: fail_times(breaker, 1))
    assert breaker.state == "open"


def test_features_without_finite_logits_are_no_failure_of_the_cloud():
    breaker = Breaker(2, 1.0, Clock())
    fail_times(breaker, 10, "refused-422")
    assert breaker.state == "closed"


@pytest.mark.parametrize("draw", [0.0, 0.999])
@pytest.mark.parametrize(
    ("asked", "least"), [(2.0, 2.0), (1e9, LONGEST_REST), (float("inf"), LONGEST_REST)]
)
def test_a_busy_cloud_is_left_alone_for_as_long_as_it_asks(draw, asked, least):
    clock = Clock()
    breaker = Breaker(3, 1.0, clock, lambda: draw)
    fail_times(breaker, 1, "busy", asked)
    assert breaker.state == "open"
    clock.now = least * (1 + JITTER * draw) - 1e-6
    assert refused_at_once(breaker) == "busy"
    clock.now += 2e-6
    assert breaker.call(lambda: 7) == 7


@pytest.mark.parametrize("draw", [0.0, 0.999])
def test_a_busy_cloud_that_does_not_say_how_long_is_asked_ever_more_rarely(draw):
    clock = Clock()
    breaker = Breaker(3, 1.0, clock, lambda: draw)
    for seconds in (1, 2, 4, 8, 16, LONGEST_REST, LONGEST_REST):
        fail_times(breaker, 1, "busy")
        rest = seconds * (1 - 0.5 * draw)
        clock.now += rest - 1e-6
        assert refused_at_once(breaker) == "busy"
        clock.now += 2e-6
    assert breaker.call(lambda: 7) == 7
    fail_times(breaker, 1, "busy")
    clock.now += 1.0
    assert breaker.call(lambda: 7) == 7


@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests"])
def test_all_threads_leave_a_busy_cloud_alone(status):
    clock = Clock()
    with FaultServer(answering(status, b"", ["Retry-After: 7"])) as server:
        link = CloudLink(server.url, clock=clock)
        assert unanswered(link).cause == "busy"
        with ThreadPoolExecutor(4) as pool:
            causes = list(pool.map(lambda _: unanswered(link).cause, range(20)))
        assert causes == ["busy"] * 20
        assert len(server.requests) == 1
        server.fault, clock.now = echo, 7.0 * (1 + JITTER)
        assert ask(link) == b"hello"


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2015 07:28:00 GMT", "-1", "x", "0", "1e3"])
def test_a_retry_after_without_seconds_says_nothing(header):
    clock = Clock()
    with FaultServer(answering("503 Busy", b"", [f"Retry-After: {header}"])) as server:
        link = CloudLink(server.url, None, 3, 0.5, clock=clock)
        assert unanswered(link).cause == "busy"
        server.fault, clock.now = echo, 0.5
        assert ask(link) == b"hello"


# ---- addresses


@pytest.fixture
def silent():
    """Return an address that takes no connection and refuses none: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(listener.getsockname())
        yield listener.getsockname()
        for sock in waiting:
            sock.close()


def resolve(monkeypatch, *addresses):
    """Let the host `cloud.test` have these addresses."""
    real = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host != "cloud.test" or kwargs.get("flags"):
            return real(host, port, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize("many", [1, 3])
def test_a_silent_address_does_not_hide_the_next_one(monkeypatch, silent, many):
    with FaultServer(echo) as server:
        resolve(monkeypatch, *[silent] * many, ("127.0.0.1", server.port))
        link = CloudLink("http://cloud.test")
        assert ask(link, seconds=0.5) == b"hello"
        link.close()
        begin = time.monotonic()
        assert ask(link) == b"hello"  # the next connection begins with what has answered
        assert time.monotonic() - begin < 0.25 * many


def test_addresses_that_refuse_cost_no_time(monkeypatch):
    with socket.create_server(("127.0.0.2", 0)) as listener:
        refusing = listener.getsockname()
    with FaultServer(echo) as server:
        resolve(monkeypatch, *[refusing] * 20, ("127.0.0.1", server.port))
        begin = time.monotonic()
        assert ask(CloudLink("http://cloud.test")) == b"hello"
        assert time.monotonic() - begin < 1.0


def test_an_address_that_connects_and_says_nothing_is_tried_last_the_next_time(monkeypatch):
    with FaultServer(hang) as mute, FaultServer(echo) as server:
        resolve(monkeypatch, ("127.0.0.1", mute.port), ("127.0.0.1", server.port))
        link = CloudLink("http://cloud.test")
        assert unanswered(link, seconds=0.1).cause == "time-out"
        assert ask(link) == b"hello"


def test_localhost_is_as_fast_as_its_address():
    with FaultServer(echo) as server:
        begin = time.monotonic()
        assert ask(CloudLink(f"http://localhost:{server.port}")) == b"hello"
        assert time.monotonic() - begin < 1.0


def test_no_address_takes_longer_than_the_deadline(monkeypatch, silent):
    resolve(monkeypatch, *[silent] * 5)
    begin = time.monotonic()
    assert unanswered(CloudLink("http://cloud.test"), seconds=0.2).cause == "time-out"
    assert 0.15 < time.monotonic() - begin < 1.0


# ---- why there is no answer


@pytest.mark.parametrize(
    ("status", "cause", "lasting"),
    [
        ("400 Bad Request", "refused-400", True),
        ("401 Unauthorized", "unauthorised", True),
        ("403 Forbidden", "unauthorised", True),
        ("404 Not Found", "not-found", True),
        ("405 Method Not Allowed", "refused", True),
        ("408 Request Timeout", "time-out", False),
        ("413 Content Too Large", "too-long", True),
        ("422 Unprocessable Content", "refused-422", False),
        ("429 Too Many Requests", "busy", False),
        ("500 Internal Server Error", "server-error", False),
        ("502 Bad Gateway", "server-error", False),
        ("503 Service Unavailable", "busy", False),
        ("204 No Content", "unusable-answer", False),
    ],
)
def test_a_refusal_has_a_cause_and_the_words_of_the_service(status, cause, lasting):
    body = b"" if status.startswith("204") else json.dumps({"error": "not today"}).encode()
    with FaultServer(answering(status, body)) as server:
        error = unanswered(CloudLink(server.url))
    assert (error.cause, error.lasting) == (cause, lasting)
    assert str(error) == f"HTTP {status[:3]}: {'not today' if body else 'no reason is given'}"


def test_a_redirection_says_where_to():
    fault = answering("301 Moved Permanently", b"", ["Location: https://cloud.test/"])
    with FaultServer(fault) as server:
        error = unanswered(CloudLink(server.url))
    assert (error.cause, error.lasting) == ("redirected", True)
    assert "points to https://cloud.test/" in str(error)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (json.dumps({"error": "a\nb\x1b[31m \u202e" + "x" * 1000}).encode(), "a b\ufffd[31m"),
        (b"<h1>no</h1>", "<h1>no</h1>"),
        (b'{"error": 3}', '{"error": 3}'),
        (b"[" * 4000, "[[["),
        (b"\xff\x00" * 5000, "\ufffd"),
    ],
)
def test_whatever_a_refusal_says_is_one_printable_line(body, reason):
    with FaultServer(answering("400 Bad Request", body)) as server:
        text = str(unanswered(CloudLink(server.url)))
    assert text.startswith(f"HTTP 400: {reason}")
    assert text.isprintable()
    assert len(text) <= 200


@pytest.mark.parametrize(
    ("options", "path", "headers", "cause", "reason"),
    [
        ({"token": "right"}, "", {}, "unauthorised", "expected this service's bearer token"),
        ({}, "/prefix", {}, "not-found", "Not Found"),
        ({"max_bytes": 10}, "", {}, "too-long", "a body may have 10 bytes"),
        ({}, "", {"model": "4567"}, "wrong-model", "expected model 0123; received '4567'"),
        ({}, "", {}, "refused-400", "features"),
    ],
)
def test_the_service_is_understood(options, path, headers, cause, reason):
    import numpy as np

    from keras_ddnn.serve.protocol.wire import Tensor

    features = Tensor("features", np.zeros((1, 2, 2, 9), np.float16))
    headers, body = encode([features], parameters=headers)
    with Server(app_of(**options)) as port:
        link = CloudLink(f"http://127.0.0.1:{port}{path}", token="wrong")
        with pytest.raises(Unanswered, match=reason) as caught:
            link.ask(headers, body, time.monotonic() + PATIENT, lambda *_: None)
        link.close()
    assert (caught.value.cause, caught.value.lasting) == (cause, True)


def test_a_refusal_is_heard_though_the_body_was_not_read():
    def accept_and_refuse(listener):
        sock, _ = listener.accept()
        with sock:
            sock.recv(100)
            sock.sendall(answer("413 Content Too Large", b'{"error": "too long"}'))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(accept_and_refuse, listener)
        link = CloudLink(f"http://127.0.0.1:{listener.getsockname()[1]}")
        error = unanswered(link, body=bytes(20_000_000))
    assert (error.cause, str(error)) == ("too-long", "HTTP 413: too long")


def test_a_refused_request_leaves_its_connection_open():
    with FaultServer(answering("400 Bad Request", b"{}")) as server:
        link = CloudLink(server.url)
        unanswered(link)
        server.fault = echo
        assert ask(link) == b"hello"
        assert len(server._open) == 1


def close_at_once(server, sock, headers, body):
    return False


def send_garbage(server, sock, headers, body):
    sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


@pytest.mark.parametrize(
    ("fault", "cause"),
    [(close_at_once, "connection"), (send_garbage, "not-http"), (hang, "time-out")],
)
def test_a_connection_that_gives_no_answer_has_a_cause(fault, cause):
    with FaultServer(fault) as server:
        error = unanswered(CloudLink(server.url), seconds=0.2)
    assert (error.cause, error.lasting) == (cause, cause == "not-http")


def test_nobody_there_has_a_cause():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert unanswered(CloudLink(f"http://127.0.0.1:{port}")).cause == "connection"
    assert unanswered(CloudLink("http://cloud.invalid"), seconds=3.0).cause == "no-address"


def test_an_answer_that_its_reader_refuses_has_a_cause():
    def read(headers, body):
        raise ValueError("expected logits")

    with FaultServer(echo) as server, pytest.raises(Unanswered, match="expected logits") as caught:
        CloudLink(server.url).ask({}, b"", time.monotonic() + PATIENT, read)
    assert (caught.value.cause, caught.value.lasting) == ("unusable-answer", False)


def test_an_open_breaker_says_what_opened_it():
    with FaultServer(answering("401 Unauthorized", b'{"error": "which token?"}')) as server:
        link = CloudLink(server.url, None, 1, 60.0)
        unanswered(link)
        error = unanswered(link)
    assert error.cause == "circuit-open"
    assert "which token?" in str(error)


def test_time_that_was_spent_before_has_a_cause():
    assert unanswered(CloudLink("http://cloud.invalid"), seconds=-1.0).cause == "no-time"


def test_lasting_causes_are_causes():
    assert set(CAUSES) > LASTING


# ---- TLS


@pytest.fixture
def tls(tmp_path):
    """Return a certificate for 127.0.0.1, and the context of a server that shows it."""
    certificate, key = make_certificate(tmp_path)
    return certificate, server_context(certificate, key)


def server_context(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_a_ca_of_its_own_makes_a_service_trusted(tls):
    certificate, context = tls
    with FaultServer(echo, tls=context) as server:
        link = CloudLink(server.url, ca=certificate)
        assert [ask(link) for _ in range(3)] == [b"hello"] * 3
        assert len(server._open) == 1
        link.close()


def test_a_certificate_that_nobody_vouches_for_is_refused(tls):
    with FaultServer(echo, tls=tls[1]) as server:
        error = unanswered(CloudLink(server.url))
    assert (error.cause, error.lasting) == ("certificate", True)
    assert "self-signed certificate; name it, or that of its CA, by --ca" in str(error)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"host": "127.0.0.9"}, "IP address mismatch"), ({"days": -1}, "has expired; is the clock")],
)
def test_a_certificate_of_another_host_or_day_is_refused(tmp_path, options, reason):
    paths = make_certificate(tmp_path, **options)
    with FaultServer(echo, tls=server_context(*paths)) as server:
        error = unanswered(CloudLink(server.url, ca=paths[0]))
    assert (error.cause, error.lasting) == ("certificate", True)
    assert reason in str(error)


def test_http_at_a_port_of_https_is_told(tls):
    with FaultServer(echo, tls=tls[1]) as server:
        link = CloudLink(server.url.replace("https", "http"))
        for _ in range(2):
            error = unanswered(link)
            assert (error.cause, error.lasting) == ("not-http", True)
            assert "write https" in str(error)


def test_https_at_a_port_of_http_is_told():
    with Server(app_of()) as port:
        error = unanswered(CloudLink(f"https://127.0.0.1:{port}"))
    assert (error.cause, error.lasting) == ("not-http", True)
    assert "does not speak TLS" in str(error)


def test_a_server_that_reads_now_and_then_gains_no_time(tls):
    certificate, context = tls

    def read_slowly(listener):
        sock, _ = listener.accept()
        with context.wrap_socket(sock, server_side=True) as secure:
            while secure.recv(1 << 14):
                time.sleep(0.01)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        link = CloudLink(f"https://127.0.0.1:{listener.getsockname()[1]}", ca=certificate)
        pool.submit(read_slowly, listener)
        begin = time.monotonic()
        error = unanswered(link, body=bytes(20_000_000), seconds=0.3)
        assert time.monotonic() - begin < 1.0
    assert error.cause == "time-out"


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_refused(tmp_path, content):
    if content:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(
        ValueError, match=r"expected a PEM file of certificates; received .*ca\.pem"
    ):
        CloudLink("https://cloud.test", ca=tmp_path / "ca.pem")
    with pytest.raises(ValueError, match="expected an https URL with a file of CAs"):
        CloudLink("http://cloud.test", ca=tmp_path / "ca.pem")
    with pytest.raises(ValueError, match="expected an https URL with a file of CAs"):
        Camera("http://cloud.test", 0, ca=tmp_path / "ca.pem")


# ---- arguments


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("geheimÄ", "received U\\+00C4 at place 7"),
        ("a\r\nX-Evil: 1", "received U\\+000D at place 2"),
        ("a\x00b", "received U\\+0000 at place 2"),
        ("", "received an empty one"),
        (" secret", "white space"),
    ],
)
def test_a_token_that_cannot_be_sent_is_refused_and_not_told(token, message):
    with pytest.raises(ValueError, match=message) as caught:
        CloudLink("http://127.0.0.1", token)
    assert "geheim" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:80/v2", "without /v2"),
        ("http://127.0.0.1:80/v2/models/ddnn/infer", "without /v2"),
        ("http://127.0.0.1:80/?token=a", r"without \? and #"),
        ("http://127.0.0.1:80/#a", r"without \? and #"),
        ("http://me:hidden@127.0.0.1", "credentials: use a token instead"),
        ("http://127.0.0.1:0", "must be http"),
        ("http://127.0.0.1:65536", "must be http"),
        ("http://127.0.0.1:http", "must be http"),
        ("http://:80", "must be http"),
        ("http://[::1", "must be http"),
        ("http://a b:80", "must be http"),
        ("http://a..b", "must be http"),
        ("http://127.0.0.1/a b", "must be http"),
        ("http://127.0.0.1/ä", "must be http"),
        ("127.0.0.1:80", "must be http"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(url, message):
    with pytest.raises(ValueError, match=message) as caught:
        CloudLink(url)
    assert len(str(caught.value).splitlines()) == 1
    assert "hidden" not in str(caught.value)


def test_a_slash_at_the_end_of_a_url_is_left_out():
    with Server(app_of(token="right")) as port:
        for path in ("", "/", "//", "/?", "/#"):
            link = CloudLink(f"http://127.0.0.1:{port}{path}", token="right")
            assert unanswered(link).cause == "refused-400"  # by the service, at its path
            link.close()


@pytest.mark.parametrize("line_to", [CloudLink, partial(Camera, camera=0)])
def test_a_token_that_travels_unencrypted_is_told_once(caplog, line_to):
    caplog.set_level(logging.WARNING)
    line_to("http://cloud.test:8000", token="secret")
    (record,) = caplog.records
    assert record.getMessage() == "the token travels unencrypted to cloud.test: use https"
    caplog.clear()
    for url in ("http://127.0.0.1", "http://[::1]:80", "http://localhost", "https://cloud.test"):
        line_to(url, token="secret")
    line_to("http://cloud.test:8000")
    assert not caplog.records
