"""The cloud service with batching against without, over numbers of connections.

    python -m benchmarks.serving

Each connection sends one sample after another, as 8-bit codes, and waits for each answer. The
service runs in a process of its own, on loopback, with the paper's cloud network, untrained. With
and without batching take turns; the round of most requests a second counts. Clients and service
share the cores, as they would not in the field.
"""

import argparse
import json
import re
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ddnn.serve.demo import running_cloud
from keras_ddnn.serve.protocol.wire import Tensor, encode

CONNECTIONS = (1, 8, 32)
BATCHING = {"without": ("--max-batch", "1", "--max-wait-ms", "0"), "with": ()}
SHAPE = (16, 16, 32)  # of the paper's features of a CIFAR-10 image
PATH = "/v2/models/ddnn/infer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000, help="a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    best = {}
    with tempfile.TemporaryDirectory() as run, ExitStack() as services:
        _save_paper_network(run)
        ports = {
            name: services.enter_context(running_cloud(run, *flags))
            for name, flags in BATCHING.items()
        }
        for connections in CONNECTIONS:
            for number in range(options.rounds + 1):
                for name, port in ports.items():
                    count = options.requests if number else options.requests // 10
                    found = _measure(port, connections, count)
                    if number:  # the first round warms up
                        key = connections, name
                        best[key] = max(best.get(key, found), found)

    table = Table(
        *("connections", "requests/s without batching", "p99, ms", "with", "p99, ms", "ratio")
    )
    rows = []
    for connections in CONNECTIONS:
        (without, p99_without), (with_, p99_with) = (best[connections, name] for name in BATCHING)
        row = {
            "connections": connections,
            "without_per_s": round(without, 1),
            "without_p99_ms": round(1e3 * p99_without, 2),
            "with_per_s": round(with_, 1),
            "with_p99_ms": round(1e3 * p99_with, 2),
            "ratio": round(with_ / without, 2),
        }
        rows.append(row)
        table.add_row(*map(str, row.values()))
    Console(width=100).print(table)
    print(json.dumps({"requests": options.requests, "rounds": options.rounds, "serving": rows}))


def _save_paper_network(run) -> None:
    """Write an artefact of the paper's network, untrained."""
    from keras_ddnn.config import DDNNConfig
    from keras_ddnn.deploy.artifact import save_policy
    from keras_ddnn.deploy.policy import OffloadPolicy
    from keras_ddnn.networks.paper import build_ddnn
    from keras_ddnn.rules.confidence import Random
    from keras_ddnn.training.capture import capture

    config, class_names = DDNNConfig(), tuple("0123456789")
    # By a rule that no graph holds, and so without the device's graph, which nothing here reads.
    policy = OffloadPolicy(build_ddnn((32, 32, 3), 10, config), config, Random(), 0.5, class_names)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    bank = capture(policy.model, images, np.arange(64) % 10)
    save_policy(policy, Path(run) / "artifact", val_bank=bank)


def _measure(port, connections, count) -> tuple[float, float]:
    """Send `count` requests over a number of connections; return requests/s and p99 in seconds."""
    codes = np.random.default_rng(0).integers(0, 256, (1, *SHAPE), dtype=np.uint8)
    headers, body = encode([Tensor("features", codes)])
    lines = {"Host": "localhost", "Content-Length": str(len(body))} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    request = f"POST {PATH} HTTP/1.1\r\n{head}\r\n".encode() + body
    ready, latencies = Barrier(connections + 1), []

    def client(share):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.wait()
            own = [_ask(line, request) for _ in range(share)]
        latencies.extend(own)

    shares = [len(part) for part in np.array_split(range(count), connections)]
    threads = [Thread(target=client, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if len(latencies) != count:
        raise RuntimeError(f"expected {count} answers; received {len(latencies)}")
    return count / seconds, float(np.quantile(latencies, 0.99))


def _ask(line, request) -> float:
    """Send one request; return the seconds to the end of its answer.

    A library's client would take longer than the service, on the cores that both share.
    """
    start = time.perf_counter()
    line.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _receive(line)
    head, content = answer.split(b"\r\n\r\n", 1)
    if b" 200 " not in head:
        raise RuntimeError(f"the service answered {answer!r}")
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    while len(content) < length:
        content += _receive(line)
    return time.perf_counter() - start


def _receive(line) -> bytes:
    part = line.recv(1 << 16)
    if not part:
        raise RuntimeError("the service closed the connection")
    return part


if __name__ == "__main__":
    main()
