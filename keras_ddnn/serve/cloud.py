"""The cloud's side: an HTTP service that finishes what devices begin.

    python -m keras_ddnn.serve.cloud RUN --port 8000

It speaks the Open Inference Protocol v2 with binary tensors (`keras_ddnn.serve.wire`), gathers
requests into batches, and shows at `/` where it works on the curve of its artefact.
"""

import argparse
import asyncio
import hmac
import json
import time
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from keras_ddnn.manifest import CLOUD, artifact_of, model_id, read_manifest
from keras_ddnn.serve.batching import Batcher, Unavailable
from keras_ddnn.serve.cloud_metrics import CloudMetrics
from keras_ddnn.serve.requests import request_reader
from keras_ddnn.serve.wire import Tensor, WireError, encode
from keras_ddnn.signature import Key

Network = Callable[[np.ndarray], np.ndarray]

NAME = "ddnn"  # of the model, in the paths of the protocol
MAX_BYTES = 4 << 20  # of a request's body
MAX_BATCH, MAX_WAIT, MAX_QUEUE = 32, 0.002, 256
BODY_SECONDS = 10.0  # that a client may take to send a body
RETRY_AFTER = "1"  # seconds
SHUTDOWN_SECONDS = 30
MAX_CONNECTIONS = 1024
# The page may run its own script and fetch from this service, nothing else.
PAGE_POLICY = (
    "default-src 'none'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'"
)


def make_app(
    model: Network,
    manifest: Mapping,
    *,
    identity: str,
    token: str | None = None,
    max_bytes: int = MAX_BYTES,
    max_batch: int = MAX_BATCH,
    max_wait: float = MAX_WAIT,
    max_queue: int = MAX_QUEUE,
) -> FastAPI:
    """Make the service around a network.

    A request that cannot be answered gets a status of 4xx and `{"error": reason}` in one line; one
    that comes when the queue is full, or when the network fails, gets 503 and may be tried again.
    Features whose logits are not finite are refused with 422, for no class can be told from them.

    Args:
        model: features, float16 (n, h, w, f) → logits, float32 (n, num_classes).
        manifest: Of its artefact; see `read_manifest`.
        identity: The model id that a request may ask for; see `model_id`.
        token: If given, what requests must carry as `Authorization: Bearer`, except those for
            health and for the page's frame.
        max_bytes: Length of the longest body that is read.
        max_batch: Samples of a batch.
        max_wait: Seconds a sample may wait for others.
        max_queue: Samples that may wait; also the most of one request.

    Returns:
        FastAPI: An application whose lifespan runs the queue, and ends when that is empty.

    Raises:
        ValueError: If a number is out of range.
    """
    page_text = files("keras_ddnn.serve").joinpath("page.html").read_bytes()
    metrics = CloudMetrics()
    batcher = Batcher(
        model,
        max_batch=max_batch,
        max_wait=max_wait,
        max_queue=max_queue,
        observe=metrics.batch.observe,
    )
    metrics.queued.set_function(lambda: batcher.queued)
    class_names = manifest["class_names"]
    read_request = request_reader(manifest, identity, max_queue)

    @asynccontextmanager
    async def lifespan(_):
        async with batcher:
            yield

    unwanted = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    app = FastAPI(lifespan=lifespan, redirect_slashes=False, **unwanted)
    _refuse_in_one_line(app, metrics)
    guarded = APIRouter(dependencies=[Depends(_bearer(token))] if token else [])

    @guarded.post(f"/v2/models/{NAME}/infer")
    async def infer(request: Request) -> Response:
        start = time.perf_counter()
        body = await _read(request, max_bytes)
        try:
            asked = read_request(request.headers, body)
        except WireError as error:
            raise HTTPException(400, str(error)) from None
        try:
            logits = await batcher.submit(asked.features)
        except Unavailable as error:
            raise HTTPException(503, str(error), {"Retry-After": RETRY_AFTER}) from None
        if not np.isfinite(logits).all():
            raise HTTPException(422, "the network has no finite logits for these features")
        metrics.answered(len(logits), asked.answered_locally, len(body))
        if asked.images is not None:
            metrics.show(asked.images, [class_names[k] for k in logits.argmax(axis=1)])
        headers, content = encode(
            [Tensor("logits", logits)], kind="outputs", model_name=NAME, request_id=asked.id
        )
        metrics.seconds.observe(time.perf_counter() - start)
        return Response(content, headers=headers)

    @app.get("/v2/health/live")
    async def live() -> dict:
        return {"live": True}

    @app.get("/v2/health/ready")
    @app.get(f"/v2/models/{NAME}/ready")
    async def ready() -> dict:
        if not batcher.open:
            raise HTTPException(503, "the service is not running", {"Retry-After": RETRY_AFTER})
        return {"ready": True}

    @guarded.get("/v2")
    async def server() -> dict:
        extensions = ["binary_tensor_data"]
        return {"name": "ddnn", "version": version("keras_ddnn"), "extensions": extensions}

    @guarded.get(f"/v2/models/{NAME}")
    async def metadata() -> dict:
        return _metadata(manifest, identity)

    @guarded.get("/metrics")
    async def exposition() -> Response:
        content = generate_latest(metrics.registry)
        return Response(content, media_type=CONTENT_TYPE_LATEST)

    @guarded.get("/state")
    async def state() -> dict:
        keys = ("plan", "score_threshold", "features")
        return metrics.as_json() | {key: manifest[key] for key in keys} | {"model": identity}

    @app.get("/")
    async def page() -> Response:
        headers = {"Content-Security-Policy": PAGE_POLICY}
        return Response(page_text, media_type="text/html", headers=headers)

    app.include_router(guarded)
    return app


def load_cloud(run, verify_key: Key | None = None) -> tuple[Network, dict, str]:
    """Load the cloud's network of an artefact, after verifying all of it.

    Args:
        run: The artefact, or the output folder of a search that holds one.
        verify_key: The public key that the artefact must be signed by; see `read_manifest`.

    Returns:
        The network, the manifest and the model id: what `make_app` needs.

    Raises:
        OSError: If the file of the key cannot be read.
        ValueError: If a file is missing or damaged, the signature asked for is missing or wrong,
            the artefact has no network for the cloud, or one that does more than compute.
    """
    folder = artifact_of(run)
    manifest = read_manifest(folder, verify_key)
    if not any(name.startswith(f"{CLOUD}/") for name in manifest["sha256"]):
        raise ValueError(f"{folder} was saved without graphs; it holds no folder {CLOUD}/")

    from keras_ddnn.capture import run_in_batches
    from keras_ddnn.cloud_graph import load_step
    from keras_ddnn.policy import BUCKETS

    shape, classes = manifest["features"]["shape"], len(manifest["class_names"])
    step = load_step(folder / CLOUD, shape, classes)

    def network(features):
        return run_in_batches(step, features, BUCKETS)[0]

    return network, manifest, model_id(folder)


async def _read(request: Request, max_bytes: int) -> bytes:
    """Return the body of a request, giving up as soon as it must be too long."""
    too_long = HTTPException(413, f"a body may have {max_bytes} bytes", {"Connection": "close"})
    declared = request.headers.get("content-length", "")
    # Comparing lengths first keeps a number of a million digits from being read.
    digits = declared.lstrip("0") if declared.isascii() and declared.isdigit() else ""
    if len(digits) > len(str(max_bytes)) or int(digits or 0) > max_bytes:
        raise too_long
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > max_bytes:
                    raise too_long
                parts.append(part)
    except TimeoutError:
        reason = f"a body must come within {BODY_SECONDS} s"
        raise HTTPException(408, reason, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "the connection ended within the body") from None
    return b"".join(parts)


def _bearer(token: str):
    """Return what lets only those requests pass that carry the token."""
    expected = f"Bearer {token}".encode()

    async def check(request: Request) -> None:
        received = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(received, expected):
            headers = {"WWW-Authenticate": "Bearer"}
            raise HTTPException(401, "expected this service's bearer token", headers)

    return check


def _refuse_in_one_line(app: FastAPI, metrics: CloudMetrics) -> None:
    """Answer whatever goes wrong with a reason in JSON, and count it."""

    async def refuse(_, error) -> Response:
        metrics.refused.labels(str(error.status_code)).inc()
        # json.dumps escapes what UTF-8 cannot encode.
        text = json.dumps({"error": str(error.detail)})
        return Response(text, error.status_code, error.headers, "application/json")

    app.add_exception_handler(AnyHTTPException, refuse)


def _metadata(manifest, identity) -> dict:
    def tensor(name, datatype, shape):
        return {"name": name, "datatype": datatype, "shape": [-1, *shape]}

    return {
        "name": NAME,
        "versions": [identity],
        "platform": "tensorflow_savedmodel",
        "inputs": [tensor("features", "FP16", manifest["features"]["shape"])],
        "outputs": [tensor("logits", "FP32", [len(manifest["class_names"])])],
    }


def main() -> None:
    """Serve an artefact until a signal; what is queued then is still answered."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="an artefact, or the output folder of a search")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(%(default)s)")
    parser.add_argument("--token-file", type=Path, help="a file with the token to ask for")
    parser.add_argument("--verify-key", type=Path, help="PEM file of whom it must be signed by")
    parser.add_argument("--max-batch", type=int, default=MAX_BATCH, help="samples (%(default)s)")
    parser.add_argument(
        "--max-wait-ms",
        type=float,
        default=1000 * MAX_WAIT,
        help="how long a sample may wait for others (%(default)s)",
    )
    parser.add_argument(
        "--queue", type=int, default=MAX_QUEUE, help="samples that may wait (%(default)s)"
    )
    options = parser.parse_args()

    import uvicorn

    try:
        token = options.token_file and _token(options.token_file)
        network, manifest, identity = load_cloud(options.run, options.verify_key)
        app = make_app(
            network,
            manifest,
            identity=identity,
            token=token,
            max_batch=options.max_batch,
            max_wait=options.max_wait_ms / 1000,
            max_queue=options.queue,
        )
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    # The kernels prepare themselves at the first batch, for which no client should wait.
    network(np.zeros((1, *manifest["features"]["shape"]), np.float16))
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        access_log=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _token(path: Path) -> str:
    token = path.read_text().strip()
    if not token:
        raise ValueError(f"expected a token in {path}; received an empty file")
    return token


if __name__ == "__main__":
    main()
