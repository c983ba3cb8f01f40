"""Whatever is sent to the cloud service, it answers or refuses, and serves on.

python -m pytest -m slow -s tests/test_cloud_fuzz.py
"""

import json
import socket
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from toy_service import INFER, Server, app_of, served_network

from keras_ddnn.serve.protocol.wire import DATATYPES, HEADER_LENGTH, Tensor, decode, encode

MAX_BYTES = 4096
FEATURES = np.arange(12, dtype=np.float16).reshape(1, 2, 2, 3)
PATHS = ("/", "/state", "/metrics", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/ddnn")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
any_json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
dtypes = st.sampled_from([*DATATYPES.values(), DATATYPES["FP16"], DATATYPES["UINT8"]])
shapes = st.just((1, 2, 2, 3)) | arrays.array_shapes(max_dims=5, max_side=5)
noise = st.binary(max_size=300)
names = st.sampled_from(["features", "images"]) | st.text(max_size=8)
tensors = dtypes.flatmap(lambda dtype: arrays.arrays(dtype, shapes))
parameters = st.dictionaries(
    st.sampled_from(["model", "answered_locally"]) | st.text(max_size=8),
    st.text(max_size=8) | st.integers() | st.booleans() | st.just("0123"),
    max_size=3,
)
fields = st.dictionaries(
    st.sampled_from(["inputs", "id", "parameters", "outputs"]), any_json, max_size=1
)
of_a_tensor = ("name", "shape", "datatype", "parameters", "other")
changes = st.dictionaries(st.sampled_from(of_a_tensor), any_json, max_size=2)


well_formed = st.builds(
    lambda sent, parameters, request_id: encode(
        [Tensor(*tensor) for tensor in sent], parameters=parameters, request_id=request_id
    ),
    st.lists(st.tuples(names, tensors), min_size=1, max_size=3),
    parameters,
    st.text(max_size=140),
)


def with_header(fields, changes, values):
    """Return a message whose JSON has a field or two of anything."""
    record = {
        "name": "features",
        "shape": [1, 2, 2, 3],
        "datatype": "FP16",
        "parameters": {"binary_data_size": 24},
    }
    text = json.dumps({"inputs": [record | changes]} | fields).encode()
    return {HEADER_LENGTH: str(len(text))}, text + values


def damage(message, place, middle, rest):
    """Return a message cut short, made longer or too long, or with other bytes within."""
    headers, body = message
    place %= len(body) + 1
    return headers, body[:place] + middle + (body[place:] if rest is None else rest)


good = st.just(encode([Tensor("features", FEATURES)]))
any_header = st.builds(with_header, fields, changes, noise | st.just(FEATURES.tobytes()))
damaged = st.builds(
    damage,
    good | well_formed | any_header,
    st.integers(0, 10_000),
    noise,
    st.sampled_from([None, b"", bytes(MAX_BYTES)]),
)
of_noise = st.tuples(st.integers(0, 400).map(lambda n: {HEADER_LENGTH: str(n)}), noise)
methods = st.sampled_from(["POST"] * 12 + ["GET", "PUT", "HEAD", "DELETE", "BREW"])
paths = st.sampled_from([INFER] * 12 + list(PATHS)) | st.text(
    st.characters(codec="ascii"), min_size=1, max_size=20
)
LINES = ("Host", "Connection", "Content-Length", "Content-Type", HEADER_LENGTH)
odd = st.text(st.characters(codec="latin-1"), max_size=12) | st.integers().map(str)
lies = st.dictionaries(
    st.sampled_from([*LINES, "Transfer-Encoding", "X"]), odd | st.just("chunked"), max_size=1
)


def request(message, method, path, lies, missing):
    """Return the bytes of an HTTP request, honest or not."""
    headers, body = message
    lines = {"Host": "a", "Connection": "close", "Content-Length": str(len(body))} | headers | lies
    lines = {name: value for name, value in lines.items() if name not in missing}
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


requests = st.builds(
    request,
    good | well_formed | any_header | damaged | of_noise,
    methods,
    paths,
    st.just({}) | lies,
    st.just([]) | st.lists(st.sampled_from(LINES), max_size=1),
)


HONEST = request(encode([Tensor("features", FEATURES)]), "POST", INFER, {}, [])


def exchange(port, request, patience=0.2) -> bytes:
    """Send the bytes of a request; return those of the response.

    The service drops a request whose sender has hung up. So that there are no more bytes is said
    only after `patience` seconds without a response: some requests promise more than they hold.
    """
    response = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=patience) as line,
        # Refused before all of it was read. What came before that is the response.
        suppress(ConnectionResetError, BrokenPipeError),
    ):
        line.sendall(request)
        with suppress(TimeoutError):
            response = line.recv(1 << 16)
        line.settimeout(20)
        line.shutdown(socket.SHUT_WR)
        while part := line.recv(1 << 16):
            response += part
    return response


def answers_rightly(port) -> bool:
    head, content = exchange(port, HONEST, patience=20).split(b"\r\n\r\n", 1)
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    logits = decode(headers, content, "outputs").tensors["logits"]
    return np.array_equal(logits, served_network(FEATURES))


def fuzz(port, count) -> Counter:
    """Send `count` requests; return how often each status came, 0 for none."""
    statuses = Counter()

    @settings(
        max_examples=count,
        phases=[Phase.explicit, Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @example(HONEST)  # chance alone draws none in some runs
    @given(requests)
    def send(request):
        response = exchange(port, request)
        status = int(response.split(b" ", 2)[1]) if response else 0
        statuses[status] += 1
        assert status < 500 or status == 503, response
        assert b"Traceback" not in response
        assert b'File "' not in response

    send()
    return statuses


def test_a_few_hundred_odd_requests_change_nothing():
    with Server(app_of(max_bytes=MAX_BYTES)) as port:
        statuses = fuzz(port, 300)
        assert answers_rightly(port)
    assert {200, 400} <= statuses.keys()


def resident(pid) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.slow
def test_ten_thousand_odd_requests_change_nothing():
    command = [sys.executable, "-m", "toy_service", str(MAX_BYTES)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as service:
        port = int(service.stdout.readline())
        assert answers_rightly(port)
        before = resident(service.pid)
        statuses = fuzz(port, 10_000)
        assert all(answers_rightly(port) for _ in range(1000))
        growth = resident(service.pid) - before
        service.communicate("")
    summary = {"requests": statuses.total(), "statuses": dict(sorted(statuses.items()))}
    print(json.dumps(summary | {"growth_mib": round(growth, 1)}))
    assert statuses.total() >= 10_000
    assert growth <= 50
    assert {200, 400, 404, 405, 413} <= statuses.keys()
