"""What the cloud serves: an application around a network.

It speaks the Open Inference Protocol v2 with binary tensors (`keras_ddnn.serve.protocol.wire`).
"""

import json
import re
import time
from asyncio import to_thread
from collections.abc import Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from math import prod
from reprlib import repr as brief

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.types import Scope

from keras_ddnn.serve.cloud.description import NAME, metadata_of, state_of
from keras_ddnn.serve.cloud.gate import Count, Gate, GateLimits, Headers, Refused, come_again
from keras_ddnn.serve.cloud.kept import KeptSamples, require_keepable
from keras_ddnn.serve.cloud.metrics import CloudMetrics
from keras_ddnn.serve.cloud.network import Network, ServedTier
from keras_ddnn.serve.cloud.versions import Served, Version, Versions
from keras_ddnn.serve.protocol.batching import Unavailable
from keras_ddnn.serve.protocol.limits import MAX_BYTES, MAX_SAMPLES
from keras_ddnn.serve.protocol.wire import MAX_HEADER, WireError, decode, encode

MODEL = f"/v2/models/{NAME}"
INFER = re.compile(rf"{MODEL}(?:/versions/([^/]+))?/infer")
READY = re.compile(rf"/v2/health/ready|{MODEL}(?:/versions/([^/]+))?/ready")
MAX_BATCH, MAX_WAIT, MAX_QUEUE = 32, 0.002, MAX_SAMPLES
DEFAULT_LIMITS = GateLimits()
MAX_DELAY = 0.05  # seconds; a device waits for 0.25 unless told otherwise
# The page may run its own script and fetch from this service, nothing else.
PAGE_POLICY = (
    "default-src 'none'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'"
)


class Service(Gate):
    """An application whose versions may be replaced while it serves, see `Versions.reload`."""

    versions: Versions


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
    others: Sequence[Served] = (),
    keep: KeptSamples | None = None,
) -> Service:
    """Make the service around a network, or around several versions of it.

    A request that cannot be answered gets a status of 4xx and `{"error": reason}` in one line; one
    that comes when the queue is full, or when the network fails, gets 503 and may be tried again.
    Features whose logits are not finite are refused with 422, for no answer can be told from them.
    What the protocol knows and this service does not do is refused too, not passed over.

    Beside the logits it says which tier has made them, `tiers`, whether one behind it failed,
    `fallback`, and their `temperatures`; see `Answers`. Calibrated `probabilities` are given where
    a request asks for them by name. A request may say by `timeout`, in microseconds, how long its
    sender waits. By `model`, or by its path, it names the version that shall answer.

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
        others: Further versions, each with a queue of its own. The page and the metrics of tiers
            behind are of `model` alone.
        keep: Where images are kept that devices send for later; None to refuse them.

    Returns:
        An ASGI application whose lifespan runs the queue, and ends when that is empty.

    Raises:
        ValueError: If a number is out of range, a manifest names no task, a version comes twice, or
            samples of one cannot be kept.
    """
    page_text = files("keras_ddnn.serve.cloud").joinpath("page.html").read_bytes()
    metrics = CloudMetrics()
    versions = Versions(
        [Served(model, manifest, identity), *others],
        check=lambda served: keep and require_keepable(served.manifest),
        changed=lambda: gate.allow(longest()),
        max_batch=max_batch,
        max_wait=max_wait,
        max_queue=max_queue,
        max_delay=max_delay,
        observe=metrics.batch.observe,
    )
    metrics.queued.set_function(lambda: versions.queued)

    @asynccontextmanager
    async def lifespan(_):
        async with versions:
            yield

    def longest() -> int:
        return max_bytes or max(bytes_of_batch(v.manifest, max_batch) for v in versions)

    def is_known(pattern: re.Pattern[str], path: str) -> bool:
        found = pattern.fullmatch(path)
        return found is not None and (not found.groups()[0] or found[1] in versions)

    unwanted = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    app = FastAPI(lifespan=lifespan, redirect_slashes=False, **unwanted)
    refuse_in_one_line(app, metrics.count_refused)

    async def infer(scope: Scope, headers: Headers, body: bytes) -> Response:
        text = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        try:
            message = decode(text, body)
            named = INFER.fullmatch(scope["path"])[1]
            version = versions.asked(named, message.parameters.get("model"))
            asked = version.read(message)
            if asked.keep and not keep:
                raise WireError("expected no samples to keep: start the service with --keep FOLDER")
            arrived = time.monotonic() - (time.perf_counter() - scope["since"])
            deadline = version.tier.deadline(arrived, asked.timeout)
            said = await version.batcher.submit(asked.features, deadline)
            require_finite(said.logits)
            if asked.keep:
                await kept(version, asked.keep, asked.images, said.logits)
        except WireError as error:
            raise Refused(400, str(error)) from None
        except Unavailable as error:
            raise Refused(503, str(error), come_again()) from None
        metrics.answered(len(said), asked.answered_locally, len(body), version.identity)
        if asked.images is not None:
            metrics.show(asked.images, version.in_words(said.logits))
        tensors = said.as_tensors(asked.outputs)
        answer, content = encode(tensors, kind="outputs", model_name=NAME, request_id=asked.id)
        metrics.seconds.observe(time.perf_counter() - scope["since"])
        return Response(content, headers=answer)

    async def kept(version: Version, sample: str, images: np.ndarray, logits: np.ndarray) -> None:
        words = version.in_words(logits)
        metrics.kept.inc(await to_thread(keep.add, sample, version.identity, images, words))

    @app.get("/v2/health/live")
    async def live() -> dict:
        return {"live": True}

    @app.get("/v2/health/ready")
    @app.get(MODEL + "/ready")
    @app.get(MODEL + "/versions/{asked}/ready")
    async def ready(request: Request) -> dict:
        require_version(request)
        if not versions.open:
            raise HTTPException(503, "the service is not running", come_again())
        return {"ready": True}

    @app.get("/v2")
    async def server() -> dict:
        extensions = ["binary_tensor_data"]
        return {"name": "ddnn", "version": version("keras_ddnn"), "extensions": extensions}

    @app.get(MODEL)
    @app.get(MODEL + "/versions/{asked}")
    async def metadata(request: Request) -> dict:
        version = require_version(request)
        return metadata_of(version.manifest, versions.identities)

    @app.post(MODEL + "/versions/{asked}/infer")
    async def unknown_version(request: Request) -> dict:  # a known one does not come here
        require_version(request)
        return {}

    def require_version(request: Request) -> Version:
        asked = request.path_params.get("asked")
        if asked is not None and asked not in versions:
            known = " or ".join(versions.identities)
            raise HTTPException(404, f"expected version {known} of {NAME}; received {brief(asked)}")
        return versions.first if asked is None else versions[asked]

    @app.get("/metrics")
    async def exposition() -> Response:
        content = generate_latest(metrics.registry) + versions.first.tier.metrics()
        return Response(content, media_type=CONTENT_TYPE_LATEST)

    @app.get("/state")
    async def state() -> dict:
        return metrics.as_json() | state_of(versions)

    @app.get("/")
    async def page() -> Response:
        headers = {"Content-Security-Policy": PAGE_POLICY}
        return Response(page_text, media_type="text/html", headers=headers)

    gate = Service(
        app,
        infer,
        asked=partial(is_known, INFER),
        free=lambda path: path in ("/", "/v2/health/live") or is_known(READY, path),
        token=token,
        hosts=hosts,
        max_bytes=longest(),
        lack=versions.lack,
        count=metrics.count_refused,
        limits=limits,
    )
    gate.versions = versions
    return gate


def require_finite(logits: np.ndarray) -> None:
    """Raise Refused unless all logits are finite."""
    if not np.isfinite(logits).all():
        raise Refused(422, "the network has no finite logits for these features")


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
