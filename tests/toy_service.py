"""A cloud service around a network whose arithmetic a reader can check by hand."""

import sys
import threading
import time

import numpy as np

from keras_ddnn.serve.cloud.listening import bound_socket
from keras_ddnn.serve.cloud.server import server_of
from keras_ddnn.serve.cloud.service import make_app

INFER = "/v2/models/ddnn/infer"
# What a cloud service reads in the manifest of the network below.
SERVED = {
    "input_shape": [4, 4, 3],
    "input_dtype": "uint8",
    "class_names": ["a", "b", "c"],
    "dataset": "toy",
    "temperatures": {"local": 1.0, "cloud": 2.0},
    "score_threshold": 0.5,
    "features": {
        "shape": [2, 2, 3],
        "dtype": "float16",
        "are_inputs": False,
        "quantisation": {"low": 0.0, "step": 0.5},
    },
    "plan": [
        {"local_fraction": 0.0, "score_threshold": 0.1, "accuracy": 0.8},
        {"local_fraction": 0.5, "score_threshold": 0.5, "accuracy": 0.9},
        {"local_fraction": 1.0, "score_threshold": 0.9, "accuracy": 0.6},
    ],
}


def served_network(features):
    """Return logits that a reader can compute: the sum of each of three feature maps."""
    return features.astype(np.float32).sum(axis=(1, 2))


def app_of(network=served_network, **options):
    """Return a service that does not wait for a batch to fill."""
    return make_app(network, SERVED, identity="0123", **({"max_wait": 0.0} | options))


class Server:
    """The service's own server in a thread, on a port of its own; `with Server(app) as port`."""

    def __init__(self, app, **options):
        self._server = server_of(app, **options)
        self._listener = bound_socket("127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))

    def __enter__(self) -> int:
        self._port = self._listener.getsockname()[1]
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.005)
        return self._port

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join()


if __name__ == "__main__":
    with Server(app_of(max_bytes=int(sys.argv[1]))) as port:
        print(port, flush=True)
        sys.stdin.read()
