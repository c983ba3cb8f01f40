"""The cloud service among crowds: connections that send nothing, and clients that do not wait.

    python -m benchmarks.crowd --output results/crowd

Three processes share this machine: the service, a crowd, and an honest client that tells how it
fares. By default the service has the paper's network, untrained.

`idle.csv`: the latency of honest requests without and with 1,500 connections that send nothing and
are opened again as soon as they are closed. `overload.csv`: answers a second of 32 clients, of
600 that ignore `Retry-After`, over the same connection or a new one each time, and of 600 that
behave as our devices. `bodies.csv`: the memory of the service under 250 bodies that do not end.
"""

import argparse
import csv
import io
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np

from benchmarks.crowd_load import HOST, Crowd
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.files.manifest import artifact_of, read_manifest
from keras_ddnn.serve.demo import _free_port, _wait_for
from keras_ddnn.serve.protocol.wire import Tensor, encode

PATH = "/v2/models/ddnn/infer"
IDLE, CLIENTS, CROWD, BODIES = 1500, 32, 600, 250
BODY_BYTES = 4 << 20
PAUSE = 0.01  # seconds between two honest requests
TIMEOUT = 10.0  # seconds after which an honest request is lost
WARM = 2.0  # seconds of a crowd that are not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="a run or an artefact; by default the paper's network")
    parser.add_argument("--output", default="results/crowd", help="a folder (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of idling (%(default)s)")
    parser.add_argument("--load-seconds", type=float, default=15.0, help="a crowd (%(default)s)")
    parser.add_argument("--only", choices=("idle", "overload", "bodies"), help="one of the three")
    options = parser.parse_args()
    parts = {
        "idle": lambda run: measure_idle(run, options.seconds),
        "overload": lambda run: measure_overload(run, options.load_seconds),
        "bodies": measure_bodies,
    }
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or paper_artefact(folder)
        for name, measure in parts.items():
            if options.only in (None, name):
                rows = measure(run)
                print(*rows, sep="\n", flush=True)
                save(Path(options.output) / f"{name}.csv", rows)


def measure_idle(run, seconds) -> list[dict]:
    """Measure honest requests without and with idle connections."""
    rows, request = [], request_of(run)
    with running_service(run) as service:
        for clients in (0, IDLE):
            logged = service.log_bytes()
            with Crowd("idle", service.port, clients, seconds + 1) as crowd:
                honest = {
                    kept: Honest(service.port, request, kept).start() for kept in (True, False)
                }
                time.sleep(seconds)
                found = {kept: client.stop() for kept, client in honest.items()}
                opened = crowd.result()["opened"]
            for kept, latencies in found.items():
                answered = [latency for latency in latencies if latency is not None]
                p50, p99, worst = (1e3 * float(np.quantile(answered, q)) for q in (0.5, 0.99, 1.0))
                rows.append(
                    {
                        "idle_connections": clients,
                        "opened": opened,
                        "seconds": seconds,
                        "honest_connection": "kept" if kept else "new each time",
                        "requests": len(latencies),
                        "lost": len(latencies) - len(answered),
                        "p50_ms": round(p50, 2),
                        "p99_ms": round(p99, 2),
                        "worst_ms": round(worst, 2),
                        "log_bytes": service.log_bytes() - logged,
                    }
                )
    for row in rows:
        alone = next(r for r in rows if r["honest_connection"] == row["honest_connection"])
        row["p99_ratio"] = round(row["p99_ms"] / alone["p99_ms"], 2)
    return rows


def measure_overload(run, seconds) -> list[dict]:
    """Measure answers a second of crowds beside those of a few clients, before and after."""
    rows, request = [], request_of(run)
    order = [("rude", CLIENTS), ("rude", CROWD), ("rude_anew", CROWD), ("device", CROWD)]
    with running_service(run) as service:
        for kind, clients in [order[0], *order, order[0]]:
            with Crowd(kind, service.port, clients, WARM + seconds, request, WARM) as crowd:
                counts = crowd.result()
            others = {f"{key}": n / seconds for key, n in counts.items() if key not in (200, 503)}
            rows.append(
                {
                    "clients": clients,
                    "kind": "a few" if clients == CLIENTS else kind,
                    "answers_per_s": round(counts[200] / seconds, 1),
                    "refusals_per_s": round(counts[503] / seconds, 1),
                    "others_per_s": round(sum(others.values()), 1),
                }
            )
    del rows[0]  # which warmed up
    few = statistics.mean(row["answers_per_s"] for row in rows if row["kind"] == "a few")
    for row in rows:
        row["share_of_a_few"] = round(row["answers_per_s"] / few, 3)
    return rows


def measure_bodies(run) -> list[dict]:
    """Measure the memory of the service while long bodies lack their last byte."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
    request = head.encode() + bytes(BODY_BYTES - 1)
    with running_service(run, "--max-bytes", f"{BODY_BYTES}") as service:
        Honest(service.port, request_of(run), True).start().stop(1.0)
        before = peak = service.resident_mib()
        with Crowd("heavy", service.port, BODIES, 15.0, request) as crowd:
            end = time.monotonic() + 15.0
            while time.monotonic() < end:
                peak = max(peak, service.resident_mib())
                time.sleep(0.02)
            counts = crowd.result()
    return [
        {
            "bodies": BODIES,
            "bytes_each": BODY_BYTES,
            "before_mib": round(before, 1),
            "peak_mib": round(peak, 1),
            "growth_mib": round(peak - before, 1),
            "refused_503": counts[503],
            "late_408": counts[408],
        }
    ]


class Honest:
    """A client that asks again and again, in a thread.

    Args:
        port: Port of the service.
        request: Its bytes.
        kept: Whether the connection is kept, or opened anew for each request.
    """

    def __init__(self, port, request, kept):
        self.port, self.request, self.kept = port, request, kept
        self.latencies, self._end = [], Event()
        self._thread = Thread(target=self._run)

    def start(self) -> "Honest":
        self._thread.start()
        return self

    def stop(self, after: float = 0.0) -> list[float | None]:
        """Return the seconds of each request, None for those lost."""
        time.sleep(after)
        self._end.set()
        self._thread.join()
        return self.latencies

    def _run(self):
        line = None
        while not self._end.wait(PAUSE):
            begin = time.perf_counter()
            try:
                line = line or socket.create_connection((HOST, self.port), TIMEOUT)
                line.settimeout(TIMEOUT)
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answered = ask(line, self.request)
            except OSError:
                answered = False
            self.latencies.append(time.perf_counter() - begin if answered else None)
            if line and not (self.kept and answered):
                line.close()
                line = None


def ask(line, request) -> bool:
    """Send a request; return whether it was answered."""
    line.sendall(request)
    with line.makefile("rb") as answer:
        status, length = answer.readline(), 0
        while (field := answer.readline().strip()) != b"":
            name, _, value = field.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return b" 200 " in status and len(answer.read(length)) == length


class Service:
    """A running service: its port, its log and its memory."""

    def __init__(self, port, process, log):
        self.port, self._process, self._log = port, process, log

    def log_bytes(self) -> int:
        """Return how much it has written."""
        return self._log.seek(0, io.SEEK_END)

    def resident_mib(self) -> float:
        """Return its resident memory in MiB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * 4096 / 2**20


@contextmanager
def running_service(run, *flags):
    """Run the service in a process of its own; yield it once it is ready."""
    port = _free_port()
    command = [sys.executable, "-m", "keras_ddnn.serve.cloud", str(run), "--port", f"{port}"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, *flags], stdout=log, stderr=log)
        try:
            _wait_for(process, f"http://{HOST}:{port}/v2/health/ready")
            yield Service(port, process, log)
        finally:
            process.terminate()
            process.wait()


def paper_artefact(folder) -> str:
    """Save an artefact of the paper's network, untrained."""
    from keras_ddnn.config import DDNNConfig
    from keras_ddnn.deploy.artifact import save_policy
    from keras_ddnn.deploy.policy import OffloadPolicy
    from keras_ddnn.networks.paper import build_ddnn
    from keras_ddnn.rules.confidence import Margin

    config, class_names = DDNNConfig(), tuple("0123456789")
    policy = OffloadPolicy(build_ddnn((32, 32, 3), 10, config), config, Margin(), 0.5, class_names)
    save_policy(policy, Path(folder) / "artifact")
    return folder


def request_of(run) -> bytes:
    """Return the bytes of a request for one sample."""
    shape = read_manifest(artifact_of(run))["features"]["shape"]
    headers, body = encode([Tensor("features", np.ones((1, *shape), np.float16))])
    lines = {"Host": "localhost", "Content-Length": str(len(body))} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {PATH} HTTP/1.1\r\n{head}\r\n".encode() + body


def save(path: Path, rows: list[dict]) -> None:
    """Write rows as CSV."""
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with replacing_file(path) as file:
        file.write(text.getvalue().encode())


if __name__ == "__main__":
    main()
