"""The cloud's part on Ray Serve: a replica that ends under load, and one that is added by it.

    python -m benchmarks.ray_serve --requests 10000

First two replicas answer requests of one sample, and one of them is killed half-way; a request that
fails is sent once more. Then a service of one to two replicas gets the same load, and says when the
second one is there. An untrained network of the paper, on loopback; clients and replicas share the
cores, as they would not in the field.
"""

import argparse
import json
import re
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException

import numpy as np

from benchmarks.serving import PATH, SHAPE, _save_paper_network
from keras_ddnn.serve.protocol.wire import Tensor, decode, encode
from keras_ddnn.serve.ray_app import NAME, ray_app, serving

TRIES = 2
SECONDS = 60.0  # that a try may take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="(%(default)s)")
    parser.add_argument("--cpus", type=float, default=0.5, help="of a replica (%(default)s)")
    parser.add_argument("--address", help="of a running Ray; default: Ray on this machine")
    parser.add_argument("--port", type=int, help="of its proxy; default: any that is free")
    options = parser.parse_args()
    features = np.random.default_rng(0).normal(size=(64, *SHAPE)).astype(np.float16)
    given = features, options.requests, options.connections
    place = {
        "port": options.port or free_port(),
        "address": options.address,
    }  # a cluster keeps its proxy
    with tempfile.TemporaryDirectory() as run:
        _save_paper_network(run)
        with serving(ray_app(run, replicas=(2, 2), cpus=options.cpus), **place) as url:
            killed = load(url, *given, halfway=kill_a_replica)
        growing = ray_app(
            run, replicas=(1, 2), target_ongoing=4.0, upscale_s=1.0, cpus=options.cpus
        )
        with serving(growing, **place) as url:
            start, grown, over = time.perf_counter(), [], threading.Event()

            def watch() -> None:
                while not over.wait(0.2) and not grown:
                    if len(replicas()) > 1:
                        grown.append(round(time.perf_counter() - start, 1))

            watcher = threading.Thread(target=watch)
            watcher.start()
            scaled = load(url, *given)
            over.set()
            watcher.join()
            scaled["second_replica_after_s"] = grown[0] if grown else None
    for counts in (killed, scaled):
        del counts["logits"]
    print(json.dumps({"one of two replicas killed": killed, "one to two replicas": scaled}))


def load(
    url: str,
    features: np.ndarray,
    requests: int,
    connections: int,
    halfway: Callable[[], object] = lambda: None,
) -> dict[str, object]:
    """Send requests of one sample each, over several connections, each at most `TRIES` times.

    Args:
        url: Of the service.
        features: What devices send, (n, ...); one after another.
        requests: How many.
        connections: That send at a time.
        halfway: Called once half of the requests are answered.

    Returns:
        `requests`, `tries` (try → requests that it answered), `lost`, `failures` (what went wrong →
        tries), `logits` (place in `features` → an answer, float32 (1, classes)), `differing`, how
        many answers of a sample are not the first one's to 1e-4, `per_s`.
    """
    host, port = re.fullmatch(r"http://(.+):(\d+)", url).groups()
    messages = [encode([Tensor("features", sample[None])]) for sample in features]
    tries, failures, logits, lock = Counter(), Counter(), {}, threading.Lock()
    numbers, differing, fired = iter(range(requests)), [], threading.Event()

    def client() -> None:
        line = HTTPConnection(host, int(port), timeout=SECONDS)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return line.close()
            if number >= requests // 2 and not fired.is_set():
                with lock:
                    first, _ = not fired.is_set(), fired.set()
                if first:
                    halfway()
            headers, body = messages[place := number % len(messages)]
            for attempt in range(1, TRIES + 1):
                try:
                    line.request("POST", PATH, body, headers)
                    answer = line.getresponse()
                    content = answer.read()
                    wrong = None if answer.status == 200 else str(answer.status)
                except (OSError, HTTPException) as error:
                    line.close()  # the next try opens it again
                    wrong = type(error).__name__
                with lock:
                    if wrong is not None:
                        failures[wrong] += 1
                        continue
                    own = decode(dict(answer.headers), content, "outputs").tensors["logits"]
                    if not np.allclose(logits.setdefault(place, own), own, atol=1e-4):
                        differing.append(number)
                    tries[attempt] += 1
                    break

    threads = [threading.Thread(target=client) for _ in range(connections)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "requests": requests,
        "tries": dict(tries),
        "lost": requests - sum(tries.values()),
        "failures": dict(failures),
        "differing": len(differing),
        "per_s": round(requests / (time.perf_counter() - start), 1),
        "logits": logits,
    }


def replicas() -> list[str]:
    """Return the names of the actors that are replicas now."""
    from ray.util import list_named_actors

    names = (actor["name"] for actor in list_named_actors(all_namespaces=True))
    return sorted(name for name in names if name.startswith("SERVE_REPLICA") and NAME in name)


def kill_a_replica() -> None:
    """End a replica at once, with all that it is asked."""
    import ray

    ray.kill(ray.get_actor(replicas()[0], namespace="serve"), no_restart=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
