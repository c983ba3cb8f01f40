"""A cloud service that fails in every way a network and a machine can."""

import socket
import time
from contextlib import suppress
from threading import Event, Thread

import numpy as np

from keras_ddnn.serve.protocol.wire import Tensor, decode, encode

CLOUD_CLASS = 2  # what a healthy one answers
CLASSES = 3
TOKEN = "secret"
PATIENCE = 0.01  # seconds between drops of a dripping answer


class FaultServer:
    """Listens on 127.0.0.1 and treats each request as `fault` says, which may be changed.

    Args:
        fault: A key of `FAULTS`, or a function as they are.
        port: To listen on; any free one by default.
        tls: An `ssl.SSLContext`, if it is to speak TLS.
    """

    def __init__(self, fault="none", port=0, tls=None):
        self.fault = fault
        self.tls = tls
        self.requests = []
        self._closing = Event()
        self._open = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._closing.set()
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self):
        with suppress(OSError):
            while not self._closing.is_set():
                sock, _ = self._listener.accept()
                self._open.append(sock)
                Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        # A ValueError or KeyError: no HTTP came, but a greeting of TLS.
        broken = OSError, ValueError, KeyError
        with suppress(*broken), self._secured(sock) as sock, sock.makefile("rb") as stream:
            while request := _read(stream):
                self.requests.append(request)
                if not FAULTS.get(self.fault, self.fault)(self, sock, *request):
                    return

    def _secured(self, sock):
        return self.tls.wrap_socket(sock, server_side=True) if self.tls else sock

    def wait(self, seconds=None):
        """Do nothing, until the server is closed."""
        self._closing.wait(seconds)


def _read(stream):
    """Return headers and body of the next request; None at the end."""
    if not stream.readline():
        return None
    headers = {}
    while line := stream.readline().decode().strip():
        name, value = line.split(": ", 1)
        headers[name.lower()] = value
    return headers, stream.read(int(headers["content-length"]))


def _http(status, headers, body) -> bytes:
    headers = {"Content-Length": len(body)} | headers
    lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def _answer(body, headers, change=lambda logits: logits, name="logits", **more) -> bytes:
    features = decode(headers, body).tensors["features"]
    logits = np.zeros((len(features), CLASSES), np.float32)
    logits[:, CLOUD_CLASS] = 1.0
    tensors = [Tensor(key, np.tile(value, len(logits))) for key, value in more.items()]
    return _http("200 OK", *encode([Tensor(name, change(logits)), *tensors], kind="outputs"))


def _send(make):
    """Return a fault that sends the bytes of make(headers, body) and keeps the connection."""

    def fault(server, sock, headers, body):
        sock.sendall(make(headers, body))
        return True

    return fault


def _send_and_close(make):
    def fault(server, sock, headers, body):
        sock.sendall(make(headers, body))

    return fault


def _logits(change, name="logits"):
    return _send(lambda headers, body: _answer(body, headers, change, name))


def _marked(**more):
    return _send(lambda headers, body: _answer(body, headers, **more))


def _refuse_timeout(headers, body):
    """Answer as a service did that knew of no timeout."""
    if "timeout" in decode(headers, body).parameters:
        return _http("400 Bad Request", {}, b'{"error": "expected no parameters but model"}')
    return _answer(body, headers)


def _drip(server, sock, headers, body):
    sock.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while True:
        sock.sendall(b".")
        time.sleep(PATIENCE)


def _drip_body(server, sock, headers, body):
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        sock.sendall(b"1\r\n.\r\n")
        time.sleep(PATIENCE)


def _hang(server, sock, headers, body):
    server.wait()


def _slow(server, sock, headers, body):
    server.wait(0.4)
    sock.sendall(_answer(body, headers))
    return True


def _garbage(headers, body):
    return np.random.default_rng(len(body)).bytes(500)


def _nan(logits):
    logits[0, 0] = np.nan
    return logits


def _nan_of_three(logits):
    return _nan(logits) if len(logits) == 3 else logits


def _check_token(headers, body):
    if headers.get("authorization") == f"Bearer {TOKEN}":
        return _answer(body, headers)
    return _http("401 Unauthorized", {}, b'{"error": "expected a bearer token"}')


# fault(server, socket, headers, body) -> whether the connection goes on
FAULTS = {
    "none": _logits(lambda logits: logits),
    "hanging": _hang,
    "slow": _slow,
    "dripping_header": _drip,
    "dripping_body": _drip_body,
    "closed_at_once": lambda *_: False,
    "closed_when_idle": _send_and_close(lambda headers, body: _answer(body, headers)),
    "error_500": _send(lambda *_: _http("500 Internal Server Error", {}, b"oops")),
    "busy_503": _send(lambda *_: _http("503 Service Unavailable", {}, b"{}")),
    "redirect": _send(lambda *_: _http("302 Found", {"Location": "http://127.0.0.1:9/"}, b"")),
    "garbage": _send_and_close(_garbage),
    "garbage_body": _send(lambda h, body: _http("200 OK", {}, _garbage(h, body))),
    "huge_body": _send_and_close(lambda h, b: _http("200 OK", {}, bytes(3 << 20))),
    "lying_length": _send_and_close(
        lambda h, b: _http("200 OK", {"Content-Length": 9999}, _answer(b, h)[-20:])
    ),
    "not_http": _send_and_close(lambda h, b: b"SSH-2.0-OpenSSH_9.6\r\n"),
    "wrong_shape": _logits(lambda logits: logits[:, :2]),
    "wrong_count": _logits(lambda logits: np.concatenate([logits, logits])),
    "wrong_dtype": _logits(lambda logits: logits.astype(np.int32)),
    "wrong_name": _logits(lambda logits: logits, "answers"),
    "nan_logits": _logits(_nan),
    "nan_of_three": _logits(_nan_of_three),
    "wrong_token": _send(_check_token),
    "from_behind": _marked(tiers=np.uint8(1), fallback=np.uint8(1)),
    "refuses_timeout": _send(_refuse_timeout),
    "wrong_tiers": _marked(tiers=np.int32(0), fallback=np.uint8(0)),
    "wrong_fallback": _marked(tiers=np.uint8(0), fallback=np.uint8(2)),
}
# In what most tests ask.
HEALTHY = ("none", "closed_when_idle", "nan_of_three", "from_behind", "refuses_timeout")
