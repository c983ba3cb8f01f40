"""Requests lost while versions of an artefact are deployed and rolled back.

    python -m benchmarks.reload

Devices of two artefacts send their requests over loopback to one service, each waiting for its
answer, while the versions that are served change again and again: the second one is deployed, made
the first, and taken back. The networks are toys, for the count is not about their speed. A request
is lost that has no answer, or the answer of the other network.
"""

import argparse
import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import numpy as np

from keras_ddnn.serve.cloud.listening import bound_socket
from keras_ddnn.serve.cloud.server import server_of
from keras_ddnn.serve.cloud.service import Service, make_app
from keras_ddnn.serve.cloud.versions import Served
from keras_ddnn.serve.protocol.causes import Unanswered
from keras_ddnn.serve.protocol.link import CloudLink
from keras_ddnn.serve.protocol.wire import Tensor, decode, encode

SHAPE, CLASSES = [16, 16, 32], 10
PATIENCE = 30.0  # seconds
MANIFEST = {
    "input_shape": [32, 32, 3],
    "input_dtype": "uint8",
    "class_names": [str(k) for k in range(CLASSES)],
    "score_threshold": 0.5,
    "features": {"shape": SHAPE, "dtype": "float16", "are_inputs": False, "quantisation": None},
    "plan": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000, help="in all (%(default)s)")
    parser.add_argument("--devices", type=int, default=8, help="at once (%(default)s)")
    options = parser.parse_args()

    a, b = (_served(name, says) for name, says in (("aa", 1.0), ("bb", 2.0)))
    app = make_app(a.model, a.manifest, identity=a.identity, others=[b], max_wait=0.0)
    server, listener = server_of(app), bound_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    running = Thread(target=server.run, args=([listener],))
    running.start()
    while not server.started:
        time.sleep(0.01)
    each = options.requests // options.devices
    begin = time.perf_counter()
    with ThreadPoolExecutor(options.devices) as devices:
        asking = [
            devices.submit(_lost, url, served, each)
            for _, served in zip(range(options.devices), itertools.cycle((a, b)))
        ]
        changes = _change_until(lambda: all(one.done() for one in asking), app, a, b)
    server.should_exit = True
    running.join()
    found = {
        "requests": each * options.devices,
        "changes": changes,
        "lost": sum(one.result() for one in asking),
        "requests_per_s": round(each * options.devices / (time.perf_counter() - begin)),
    }
    print(json.dumps(found))


def _served(identity: str, says: float) -> Served:
    """Return a version whose artefact is loaded anew with each change, as a network of its own."""

    def network(features: np.ndarray) -> np.ndarray:
        return np.full((len(features), CLASSES), says, np.float32)

    return Served(network, MANIFEST, identity)


def _change_until(over, app: Service, a: Served, b: Served) -> int:
    """Change what is served until the devices have done; return how often."""
    for count in itertools.count():
        if over():
            return count
        # A copy is another load of the same artefact: its network and its queue are new.
        first, second = (Served(*served) for served in ((b, a) if count % 2 else (a, b)))
        app.versions.reload(lambda first=first, second=second: [first, second]).result()


def _lost(url: str, served: Served, count: int) -> int:
    """Ask one version about a sample again and again; return how many requests are lost."""
    link, lost = CloudLink(url), 0
    features = np.zeros((1, *SHAPE), np.float16)
    headers, body = encode([Tensor("features", features)], parameters={"model": served.identity})
    expected = served.model(features)[0, 0]
    for _ in range(count):
        try:
            said = link.ask(headers, body, time.monotonic() + PATIENCE, _first_logit)
        except Unanswered as error:
            print("lost:", error, file=sys.stderr)
            said = None
        lost += bool(said != expected)
    link.close()
    return lost


def _first_logit(headers, body) -> float:
    return float(decode(headers, body, "outputs").tensors["logits"][0, 0])


if __name__ == "__main__":
    main()
