"""A sample that passes three tiers against the sum of their networks and links, each alone.

    python -m benchmarks.tiers

Fog and cloud run in processes of their own; each is behind a slow link of its own. All samples are
sent to the last tier, one after another. A network alone is its graph, as its tier runs it: LiteRT
for device and fog, TensorFlow for the cloud. A link alone carries as many bytes there and back to a
server that does nothing. The parts take turns; the median of the rounds counts. What is above the
sum is what the services cost: HTTP, queues, and the protocol.
"""

import argparse
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from threading import Thread

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ddnn.serve.demo import MEGABIT, linked, running_cloud
from keras_ddnn.serve.edge.runtime import EdgeRuntime

SIDE, CLASSES = 96, 10
CUTS = ("block_2_add", "block_9_add")  # of MobileNetV2
HEADERS = 200  # bytes of HTTP, there and back
ANSWER = 500  # bytes of a message of logits and marks
PATIENT = 30.0  # seconds
MOST = 1.15  # of the sum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=20, help="a round (%(default)s)")
    parser.add_argument("--round-trip-ms", type=float, default=40.0, help="of each link")
    parser.add_argument("--bandwidth-mbps", type=float, default=10.0, help="of each link")
    options = parser.parse_args()

    link = {
        "round_trip": options.round_trip_ms / 1000,
        "bandwidth": options.bandwidth_mbps * MEGABIT,
    }
    with tempfile.TemporaryDirectory() as folder, ExitStack() as machines:
        calls = _parts(Path(folder), link, machines)
        seconds = {name: [] for name in calls}
        for number in range(options.rounds + 1):
            for name, call in calls.items():
                taken = [_timed(call) for _ in range(options.samples)]
                if number:  # the first round warms up
                    seconds[name].append(median(taken))
    found = {name: median(each) for name, each in seconds.items()}
    whole = found.pop("all three tiers")
    total = sum(found.values())

    table = Table("", "ms a sample")
    for name, each in {**found, "sum": total, "all three tiers": whole}.items():
        table.add_row(name, f"{1000 * each:.2f}")
    Console(width=100).print(table)
    ratio = whole / total
    print(f"ratio {ratio:.3f}, of at most {MOST}")
    told = {name: round(1000 * each, 3) for name, each in found.items()}
    print(json.dumps({"tiers": told, "whole_ms": round(1000 * whole, 3), "ratio": round(ratio, 3)}))


def _parts(folder: Path, link: dict, machines: ExitStack) -> dict[str, Callable[[], object]]:
    """Return what runs a sample through everything, and through each part alone."""
    _save(folder)
    from keras_ddnn.serve.cloud.network import load_cloud

    start = machines.enter_context
    cloud = start(linked(start(running_cloud(folder / "1")), link))
    upstream = "--upstream", f"http://127.0.0.1:{cloud}", "--upstream-deadline-ms", "30000"
    fog = start(linked(start(running_cloud(folder / "0", *upstream)), link))

    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    device = start(EdgeRuntime(folder / "0", f"http://127.0.0.1:{fog}", deadline_s=PATIENT))
    alone = {name: start(EdgeRuntime(folder / name)) for name in ("0", "1")}
    network, manifest, _ = load_cloud(folder / "1")
    first, second = (
        np.zeros((1, *runtime.manifest["features"]["shape"]), np.float32)
        for runtime in alone.values()
    )
    if (answer := device.predict(image)).tiers.tolist() != [2]:
        raise RuntimeError(f"expected an answer of the cloud; received {answer}")
    sizes = [len(runtime.requests.blank(1)[1]) + HEADERS for runtime in alone.values()]
    there, onward = (start(_exchange(size, ANSWER + HEADERS, link)) for size in sizes)
    return {
        "all three tiers": lambda: device.predict(image),
        "network of the device": lambda: alone["0"].predict(image),
        "link to the fog": there,
        "network of the fog": lambda: alone["1"].predict(first),
        "link to the cloud": onward,
        "network of the cloud": lambda: network(second.astype(manifest["features"]["dtype"])),
    }


def _save(folder: Path) -> None:
    """Write three tiers of an untrained network, whose gates send everything on."""
    import keras

    from keras_ddnn import OffloadPolicy, save_tiers, split
    from keras_ddnn.rules.confidence import Gate, Margin

    shape = (SIDE, SIDE, 3)
    model = keras.applications.MobileNetV2(input_shape=shape, weights=None, classes=CLASSES)
    network = split(model, CUTS, preprocess=keras.layers.Rescaling(1 / 127.5, -1.0))
    always = Gate(Margin(), -1.0)  # a margin is 0 at least
    names = tuple(map(str, range(CLASSES)))
    given = always.rule, always.score_threshold, names
    save_tiers(OffloadPolicy(network, None, *given, later=[always]), folder)


@contextmanager
def _exchange(size: int, answer: int, link: dict) -> Iterator[Callable[[], None]]:
    """Yield what sends `size` bytes over a link and waits for `answer` bytes back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=_answer_all, args=(listener, size, bytes(answer)), daemon=True).start()
        with (
            linked(listener.getsockname()[1], link) as port,
            socket.create_connection(("127.0.0.1", port), timeout=PATIENT) as line,
        ):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def exchange() -> None:
                line.sendall(bytes(size))
                _receive(line, answer)

            yield exchange


def _answer_all(listener: socket.socket, size: int, answer: bytes) -> None:
    line, _ = listener.accept()
    with line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while _receive(line, size):
            line.sendall(answer)


def _receive(line: socket.socket, size: int) -> bool:
    """Read so many bytes; return False at the end of the connection."""
    while size > 0:
        if not (part := line.recv(min(size, 1 << 16))):
            return False
        size -= len(part)
    return True


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
