"""The device at run time: it answers what it can, and asks the cloud about the rest.

    python -m keras_ddnn.serve.edge RUN --cloud http://HOST:PORT --images FOLDER

It needs NumPy and LiteRT, but neither TensorFlow nor Keras.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_ddnn.checks import require_choice, require_count, require_images, require_positive
from keras_ddnn.manifest import EDGE_GRAPHS, artifact_of, model_id, read_manifest
from keras_ddnn.quantisation import Quantisation
from keras_ddnn.serve.drift import DriftGuard
from keras_ddnn.serve.edge_benchmark import benchmark
from keras_ddnn.serve.edge_metrics import EdgeMetrics
from keras_ddnn.serve.edge_view import live_view, read_images, show_report
from keras_ddnn.serve.link import CloudLink, Unanswered
from keras_ddnn.serve.wire import Tensor, WireError, decode, encode

BATCH = 32  # samples at a time through the graph, and in a request


@dataclass(frozen=True, eq=False)
class EdgeAnswer:
    """What a device says of n images.

    Attributes:
        classes: int64 of shape (n,).
        scores: Of the offload rule, float32 of shape (n,).
        offloaded: Whether the cloud was to answer, bool of shape (n,).
        fallback: Whether it was to and could not, so that the class is the local network's, bool of
            shape (n,).
        seconds: From images to answer.
    """

    classes: np.ndarray
    scores: np.ndarray
    offloaded: np.ndarray
    fallback: np.ndarray
    seconds: float


class EdgeRuntime:
    """Runs the device's part of an artefact; not to be shared by threads.

    Args:
        folder: The artefact, or the run that it belongs to.
        cloud_url: "http://host:port" of the cloud service; None if there is none, and the local
            network answers everything.
        graph: A key of `EDGE_GRAPHS`. With "float" features are sent as float16, unless a
            bottleneck was trained to send codes; with "int8" always as codes.
        deadline_s: Seconds from the call of `predict` to its answer; what the cloud has not
            answered by then, the local network has.
        token: Bearer token of the service.
        share_images: Whether to send the images too, for the service's page to show.
        failures: Requests in a row without an answer after which the cloud is left alone.
        rest_s: For how long, in seconds, before it is tried again.
        guarded: Whether a drift guard decides, see `DriftGuard.of`. What it draws for audit is sent
            with what is offloaded, and waits for the cloud as long; a local answer stands.

    Attributes:
        score_threshold: Samples with a score at or above it are offloaded, unless guarded. It may
            be changed.
        guard: The drift guard, or None.
        manifest: Of the artefact.
        metrics: What has happened so far.

    Raises:
        ValueError: If a file of the artefact is missing or damaged, it holds no such graph, or an
            argument is out of range.
    """

    def __init__(
        self,
        folder,
        cloud_url: str | None = None,
        *,
        graph: str = "float",
        deadline_s: float = 0.25,
        token: str | None = None,
        share_images: bool = False,
        failures: int = 3,
        rest_s: float = 1.0,
        guarded: bool = False,
    ):
        require_choice("graph", graph, EDGE_GRAPHS)
        require_positive(deadline_s=deadline_s, rest_s=rest_s)
        folder = artifact_of(folder)
        self.manifest = read_manifest(folder)
        if EDGE_GRAPHS[graph] not in self.manifest["sha256"]:
            raise ValueError(
                f"{folder} holds no {EDGE_GRAPHS[graph]}: expected a rule that can be part of a "
                f"graph, for int8 validation data too, when it was saved; received the rule "
                f"{self.manifest['rule']['name']}"
            )
        device = Interpreter(str(folder / EDGE_GRAPHS[graph]), num_threads=1)
        self._run = device.get_signature_runner()
        features = self.manifest["features"]
        in_codes = graph == "int8" or features["lossless"]
        quantisation = Quantisation.from_json(features["quantisation"])
        self._code = quantisation.codes if in_codes else _as_float16
        self.metrics = EdgeMetrics()
        sent = self.metrics.count_sent
        self._link = cloud_url and CloudLink(cloud_url, token, failures, rest_s, sent)
        self._model = model_id(folder)
        self._share_images = share_images
        self._answered_locally = 0  # since the latest request that arrived
        self.score_threshold = self.manifest["score_threshold"]
        self.guard = DriftGuard.of(self.manifest) if guarded else None
        self.deadline_s = deadline_s

    def predict(self, images: np.ndarray, labels: np.ndarray | None = None) -> EdgeAnswer:
        """Classify uint8 images (n, h, w, c), n at least 1; no fault of the network is raised.

        Args:
            images: The images.
            labels: For the audit alone, where they are known: int of shape (n,), negative where
                not.

        Raises:
            ValueError: If the images are of another shape or type than the artefact's, or there is
                not one label an image.
        """
        begin = time.monotonic()
        labels = np.full(len(images), -1) if labels is None else np.asarray(labels)
        require_images(images, self.manifest["input_shape"])
        if labels.shape != (len(images),):
            raise ValueError(f"expected {len(images)} labels; received shape {labels.shape}")
        parts = [
            self._predict(*(a[start : start + BATCH] for a in (images, labels)), begin)
            for start in range(0, len(images), BATCH)
        ]
        classes, scores, offloaded, fallback = map(np.concatenate, zip(*parts))
        seconds = time.monotonic() - begin
        self.metrics.count(offloaded, fallback, seconds, self.breaker)
        return EdgeAnswer(classes, scores, offloaded, fallback, seconds)

    @property
    def breaker(self) -> str:
        """State of the circuit breaker: "closed" while all is well, "open" or "half-open"."""
        return self._link.state if self._link else "closed"

    def close(self) -> None:
        """Close the connection."""
        if self._link:
            self._link.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _predict(self, images, labels, begin):
        # The arrays belong to the interpreter, and change with its next run.
        outputs = {name: array.copy() for name, array in self._run(images=images).items()}
        scores, classes = outputs["score"], outputs["local_logits"].argmax(axis=1)
        offloaded, drawn = self._decide(scores)
        sent = offloaded | drawn
        fallback = np.zeros(len(images), bool)
        self._answered_locally += int(np.sum(~offloaded))
        if sent.any():
            deadline = begin + self.deadline_s
            try:
                logits = self._ask_cloud(outputs["features"][sent], images[sent], deadline)
            except Unanswered:
                fallback = offloaded
            else:
                cloud = np.zeros_like(classes)
                cloud[sent] = logits.argmax(axis=1)
                if drawn.any():
                    self.guard.learn(*(a[drawn] for a in (offloaded, classes, cloud, labels)))
                classes[offloaded] = cloud[offloaded]
        return classes, scores, offloaded, fallback

    def _decide(self, scores):
        """Return which samples to offload, and which to audit."""
        if self.guard:
            return self.guard.decide(scores)
        return scores >= self.score_threshold, np.zeros(len(scores), bool)

    def _ask_cloud(self, features, images, deadline):
        if not self._link:
            raise Unanswered("there is no cloud")
        tensors = [Tensor("features", self._code(features))]
        tensors += [Tensor("images", images)] if self._share_images else []
        parameters = {"model": self._model, "answered_locally": self._answered_locally}
        headers, body = encode(tensors, parameters=parameters)

        def read(headers, answer):
            logits = decode(headers, answer, "outputs").tensors.get("logits")
            expected = len(features), len(self.manifest["class_names"])
            if logits is None or logits.shape != expected or logits.dtype != np.float32:
                raise WireError(f"expected float32 logits of shape {expected}")
            if not np.isfinite(logits).all():
                raise WireError("expected finite logits")
            return logits

        logits = self._link.ask(headers, body, deadline, read)
        self._answered_locally = 0
        return logits


def _as_float16(features: np.ndarray) -> np.ndarray:
    return features.astype(np.float16)


def main(arguments=None) -> None:
    """Run a device over images and report; see the top of the file."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_ddnn.serve.edge",
        description="Classify images on this machine, asking a cloud service about the hard ones.",
    )
    parser.add_argument("run", help="a run of a search, or an artefact")
    parser.add_argument("--cloud", metavar="URL", help="the service; without, all is answered here")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", help="a folder of images, in folders by class where known")
    source.add_argument("--dataset", help="test data of a dataset, by its name or .npz file")
    source.add_argument("--benchmark", metavar="FILE", help="time this device for keras_ddnn.cuts")
    parser.add_argument("--graph", choices=EDGE_GRAPHS, default="float")
    parser.add_argument("--deadline-ms", type=float, default=250.0)
    parser.add_argument("--token-file", type=Path, help="a file with the service's token")
    parser.add_argument("--limit", type=int, help="classify the first so many images only")
    parser.add_argument("--batch", type=int, default=1, help="images a call")
    parser.add_argument("--share-images", action="store_true", help="show them on the page")
    parser.add_argument(
        "--guard", action="store_true", help="hold the local fraction, and audit what that costs"
    )
    options = parser.parse_args(arguments)
    try:
        if options.benchmark:
            return benchmark(options.run, options.graph, options.benchmark)
        runtime = EdgeRuntime(
            options.run,
            options.cloud,
            graph=options.graph,
            deadline_s=options.deadline_ms / 1000.0,
            token=options.token_file and options.token_file.read_text().strip(),
            share_images=options.share_images,
            guarded=options.guard,
        )
        require_count(batch=options.batch)
        images, labels = read_images(
            options.images, options.dataset, runtime.manifest["class_names"], options.limit
        )
        classes = []
        with runtime, live_view(len(images), lambda: (runtime.metrics.numbers(), runtime.breaker)):
            for start in range(0, len(images), options.batch):
                part = slice(start, start + options.batch)
                known = None if labels is None else labels[part]
                classes.append(runtime.predict(images[part], known).classes)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    show_report(runtime.metrics.numbers(), np.concatenate(classes), labels)
    if runtime.guard:
        print(*runtime.guard.status()["alarms"] or ["no drift was noticed"], sep="\n")


if __name__ == "__main__":
    main()
