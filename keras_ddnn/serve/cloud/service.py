"""What the cloud serves: an application around a network.

It speaks the Open Inference Protocol v2 with binary tensors (`keras_ddnn.serve.protocol.wire`).
"""

import json
import time
from collections.abc import Collection, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from math import prod
from reprlib import repr as brief

import numpy as np
from fastapi import FastAPI, HTTPException, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.types import ASGIApp, Scope

from keras_ddnn.files.fields.ranges import LARGEST
from keras_ddnn.serve.cloud.gate import Count, Gate, GateLimits, Headers, Refused, come_again
from keras_ddnn.serve.cloud.metrics import CloudMetrics
from keras_ddnn.serve.cloud.network import Network, ServedTier, as_tier
from keras_ddnn.serve.protocol.answers import (
    FALLBACK,
    LOGITS,
    PROBABILITIES,
    TEMPERATURES,
    TIERS,
)
from keras_ddnn.serve.protocol.batching import Batcher, Unavailable
from keras_ddnn.serve.protocol.limits import MAX_BYTES, MAX_SAMPLES
from keras_ddnn.serve.protocol.requests import offered_outputs, request_reader
from keras_ddnn.serve.protocol.wire import DATATYPE_OF, MAX_HEADER, WireError, encode
from keras_ddnn.tasks.known import in_words, task_of

NAME = "ddnn"  # of the model, in the paths of the protocol
MODEL = f"/v2/models/{NAME}"
MAX_BATCH, MAX_WAIT, MAX_QUEUE = 32, 0.002, MAX_SAMPLES
DEFAULT_LIMITS = GateLimits()
MAX_DELAY = 0.05  # seconds; a device waits for 0.25 unless told otherwise
# The page may run its own script and fetch from this service, nothing else.
PAGE_POLICY = (
    "default-src 'none'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'"
)


def make_app(
    model: Network | ServedTier,
    manifest: Mapping,
    *,
    identity: str,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    max_bytes: int | None = None,
    max_batch: int = MAX_BATCH,
    max_wait: float = MAX_WAIT,
    max_queue: int = MAX_QUEUE,
    max_delay: float = MAX_DELAY,
    limits: GateLimits = DEFAULT_LIMITS,
) -> ASGIApp:
    """Make the service around a network.

    A request that cannot be answered gets a status of 4xx and `{"error": reason}` in one line; one
    that comes when the queue is full, or when the network fails, gets 503 and may be tried again.
    Features whose logits are not finite are refused with 422, for no answer can be told from them.
    What the protocol knows and this service does not do is refused too, not passed over.

    Beside the logits it says which tier has made them, `tiers`, whether one behind it failed,
    `fallback`, and their `temperatures`; see `Answers`. Calibrated `probabilities` are given where
    a request asks for them by name. A request may say by `timeout`, in microseconds, how long its
    sender waits.

    Args:
        model: What a device sends, float16 (n, h, w, f) for a feature map → logits, float32
            (n, num_classes); or a `ServedTier`, which may ask further services.
        manifest: Of its artefact; see `read_manifest`.
        identity: The model id that a request may ask for; see `model_id`.
        token: If given, what requests must carry as `Authorization: Bearer`, except those for
            health and for the page's frame.
        hosts: Names that a request may call this service by, beside its addresses; None for any.
            Without a token, give them: else a web page can have its reader's browser ask.
        max_bytes: Length of the longest body that is read; by default see `bytes_of_batch`.
        max_batch: Samples of a batch.
        max_wait: Seconds a sample may wait for others.
        max_queue: Samples that may wait; also the most of one request.
        max_delay: Seconds a sample may be expected to wait for its turn; what would wait longer is
            refused.
        limits: What is spent on clients, see `GateLimits`.

    Returns:
        An ASGI application whose lifespan runs the queue, and ends when that is empty.

    Raises:
        ValueError: If a number is out of range, or the manifest names no task.
    """
    page_text = files("keras_ddnn.serve.cloud").joinpath("page.html").read_bytes()
    metrics = CloudMetrics()
    tier = as_tier(model, manifest)
    batcher = Batcher(
        tier.answer,
        max_batch=max_batch,
        max_wait=max_wait,
        max_queue=max_queue,
        max_delay=max_delay,
        at_once=tier.at_once,
        observe=metrics.batch.observe,
    )
    metrics.queued.set_function(lambda: batcher.queued)
    task, names = task_of(manifest), manifest["class_names"]
    read_request = request_reader(manifest, identity, max_queue)
    versioned = f"{MODEL}/versions/{identity}"

    @asynccontextmanager
    async def lifespan(_):
        async with batcher:
            yield
        tier.close()

    unwanted = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    app = FastAPI(lifespan=lifespan, redirect_slashes=False, **unwanted)
    refuse_in_one_line(app, metrics.count_refused)
    ready_paths = ("/v2/health/ready", f"{MODEL}/ready", f"{versioned}/ready")

    async def infer(scope: Scope, headers: Headers, body: bytes) -> Response:
        text = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        try:
            asked = read_request(text, body)
            arrived = time.monotonic() - (time.perf_counter() - scope["since"])
            deadline = tier.deadline(arrived, asked.timeout)
            said = await batcher.submit(asked.features, deadline)
        except WireError as error:
            raise Refused(400, str(error)) from None
        except Unavailable as error:
            raise Refused(503, str(error), come_again()) from None
        if not np.isfinite(said.logits).all():
            raise Refused(422, "the network has no finite logits for these features")
        metrics.answered(len(said), asked.answered_locally, len(body))
        if asked.images is not None:
            metrics.show(asked.images, in_words(task, said.logits, names))
        tensors = said.as_tensors(asked.outputs)
        answer, content = encode(tensors, kind="outputs", model_name=NAME, request_id=asked.id)
        metrics.seconds.observe(time.perf_counter() - scope["since"])
        return Response(content, headers=answer)

    @app.get("/v2/health/live")
    async def live() -> dict:
        return {"live": True}

    async def ready() -> dict:
        if not batcher.open:
            raise HTTPException(503, "the service is not running", come_again())
        return {"ready": True}

    for path in ready_paths:
        app.add_api_route(path, ready)

    @app.get("/v2")
    async def server() -> dict:
        extensions = ["binary_tensor_data"]
        return {"name": "ddnn", "version": version("keras_ddnn"), "extensions": extensions}

    @app.get(MODEL)
    @app.get(versioned)
    async def metadata() -> dict:
        return _metadata(manifest, identity)

    @app.get(MODEL + "/versions/{other}")
    @app.get(MODEL + "/versions/{other}/ready")
    @app.post(MODEL + "/versions/{other}/infer")
    async def unknown_version(other: str) -> Response:
        raise HTTPException(404, f"expected version {identity} of {NAME}; received {brief(other)}")

    @app.get("/metrics")
    async def exposition() -> Response:
        content = generate_latest(metrics.registry) + tier.metrics()
        return Response(content, media_type=CONTENT_TYPE_LATEST)

    @app.get("/state")
    async def state() -> dict:
        keys = ("plan", "features")
        told = {name: getattr(task.measure, name) for name in ("name", "title", "higher_is_better")}
        own = {"model": identity, "behind": tier.state(), "measure": told}
        own["dataset"] = manifest.get("dataset")
        # JSON has no infinity, at which nothing or all is sent.
        ends = -LARGEST, manifest["score_threshold"], LARGEST
        own["score_threshold"] = sorted(ends)[1]
        return metrics.as_json() | {key: manifest[key] for key in keys} | own

    @app.get("/")
    async def page() -> Response:
        headers = {"Content-Security-Policy": PAGE_POLICY}
        return Response(page_text, media_type="text/html", headers=headers)

    return Gate(
        app,
        infer,
        asked=frozenset((f"{MODEL}/infer", f"{versioned}/infer")).__contains__,
        free_paths=("/", "/v2/health/live", *ready_paths),
        token=token,
        hosts=hosts,
        max_bytes=max_bytes or bytes_of_batch(manifest, max_batch),
        lack=lambda: batcher.lack(1),
        count=metrics.count_refused,
        limits=limits,
    )


def bytes_of_batch(manifest: Mapping, samples: int = MAX_BATCH) -> int:
    """Return the longest body a device may send by default: a batch, and at least `MAX_BYTES`.

    Args:
        manifest: Of an artefact; see `read_manifest`.
        samples: Of the batch, not in codes, and with their images.
    """
    sent, dtype = manifest["features"], manifest["input_dtype"]
    sample = np.dtype(sent["dtype"]).itemsize * prod(sent["shape"])
    sample += np.dtype(dtype).itemsize * prod(manifest["input_shape"])
    return max(MAX_BYTES, MAX_HEADER + samples * sample)


def refuse_in_one_line(app: FastAPI, count: Count) -> None:
    """Answer whatever goes wrong with a reason in JSON, and count it."""

    async def refuse(_, error) -> Response:
        count(error.status_code)
        # json.dumps escapes what UTF-8 cannot encode.
        text = json.dumps({"error": str(error.detail)})
        return Response(text, error.status_code, error.headers, "application/json")

    app.add_exception_handler(AnyHTTPException, refuse)


def _metadata(manifest, identity) -> dict:
    def tensor(name, datatype, shape):
        return {"name": name, "datatype": datatype, "shape": [-1, *shape]}

    sent, classes = manifest["features"], [len(manifest["class_names"])]
    sent_dtype = np.dtype(sent["dtype"])
    outputs = {
        LOGITS: ("FP32", classes),
        TIERS: ("UINT8", []),
        FALLBACK: ("UINT8", []),
        TEMPERATURES: ("FP32", []),
        PROBABILITIES: ("FP32", classes),
    }
    return {
        "name": NAME,
        "versions": [identity],
        "platform": "tensorflow_savedmodel",
        "inputs": [tensor("features", DATATYPE_OF[sent_dtype], sent["shape"])],
        "outputs": [tensor(name, *outputs[name]) for name in offered_outputs(manifest)],
    }
