"""The HTTP service of a gateway.

A camera sends `PUT /samples/ID/cameras/K`, whose body is its frame. The Open Inference Protocol
knows only whole samples, so this path is ours; the frame may be that protocol's binary tensor.
"""

import asyncio
import json
import re
from collections.abc import Collection
from contextlib import asynccontextmanager
from math import prod
from typing import Any

import numpy as np
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Scope

from keras_ddnn.serve.cloud.gate import Gate, GateLimits, Headers, Refused, come_again
from keras_ddnn.serve.cloud.service import DEFAULT_LIMITS, refuse_in_one_line
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.gateway.camera import FRAME
from keras_ddnn.serve.gateway.gathering import Gathered, Gathering, SecondFrame
from keras_ddnn.serve.gateway.metrics import GatewayMetrics
from keras_ddnn.serve.protocol.batching import Unavailable
from keras_ddnn.serve.protocol.wire import HEADER_LENGTH, MAX_HEADER, decode

PATH = re.compile("/samples/(.+)/cameras/([^/]+)", re.DOTALL)  # an id may hold any character
LIVE, READY = "/v2/health/live", "/v2/health/ready"


def make_gateway(
    runtime: EdgeRuntime,
    *,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    limits: GateLimits = DEFAULT_LIMITS,
    **gathering: Any,
) -> ASGIApp:
    """Make the service around the runtime of an artefact that reads several cameras.

    The body of a frame is its pixels, uint8 (h, w, c) in C order; or a message of
    `keras_ddnn.serve.protocol.wire` with one tensor, `frame`. The answer comes when the sample has
    one, the same to all of its cameras, as JSON: `sample`; `class`, the user's label; `score` of
    the offload rule; `tier`, how many tiers behind the gateway's own network the one is that
    answered; `offloaded`, whether the cloud was to answer; `fallback`, the cause where it did not,
    else null; `fallback_behind`, whether the cloud answered for a tier behind it that failed; and
    `absent`, the cameras that the network did not see.

    A frame that cannot be used gets 400, a second, different one of a camera 409, and one for which
    there is no room 503, each with `{"error": reason}` in one line.

    Args:
        runtime: Answers the samples; it is closed when the service ends.
        token: If given, what frames must carry as `Authorization: Bearer`.
        hosts: Names that a request may call this service by, beside its addresses; None for any.
        limits: What is spent on clients. Frames that wait count in its `budget` of bytes.
        gathering: Options of `Gathering`.

    Returns:
        An ASGI application whose lifespan ends when all samples are answered.

    Raises:
        ValueError: As `Gathering` does.
    """
    gathered = Gathering(runtime, **gathering, observe=lambda sample: metrics.answered(sample))
    metrics = GatewayMetrics(runtime.metrics.registry, gathered.cameras)
    metrics.open.set_function(lambda: gathered.open)

    @asynccontextmanager
    async def lifespan(_):
        yield
        await asyncio.to_thread(gathered.close)
        runtime.close()

    unwanted = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    app = FastAPI(lifespan=lifespan, redirect_slashes=False, **unwanted)
    refuse_in_one_line(app, metrics.count_refused)

    @app.get(LIVE)
    async def live() -> dict:
        return {"live": True}

    @app.get(READY)
    async def ready() -> dict:
        return {"ready": True}

    @app.get("/metrics")
    async def exposition() -> Response:
        return Response(generate_latest(runtime.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def take(scope: Scope, headers: Headers, body: bytes) -> Response:
        sample, camera = PATH.fullmatch(scope["path"]).groups()
        try:
            frame = _frame(headers, body, gathered.shape)
            said = await asyncio.wrap_future(gathered.add(sample, _number(camera), frame))
        except SecondFrame as error:
            raise Refused(409, str(error)) from None
        except ValueError as error:
            raise Refused(400, str(error)) from None
        except Unavailable as error:
            raise Refused(503, str(error), come_again()) from None
        if not np.isfinite(said.answer.logits).all():
            raise Refused(422, "the network has no finite logits for these frames")
        # json.dumps escapes what UTF-8 cannot encode.
        return Response(json.dumps(as_json(sample, said)), media_type="application/json")

    return Gate(
        app,
        take,
        asked=PATH.fullmatch,
        method="PUT",
        free=(LIVE, READY).__contains__,
        token=token,
        hosts=hosts,
        max_bytes=MAX_HEADER + prod(gathered.shape),
        # Most frames belong to samples that wait already, and make room by their coming.
        lack=lambda: None,
        count=metrics.count_refused,
        limits=limits,
    )


def as_json(sample: str, gathered: Gathered) -> dict[str, Any]:
    """Return what the service says of a sample, as plain JSON types."""
    said = gathered.answer
    return {
        "sample": sample,
        "class": said.classes[0].item(),
        "score": said.scores[0].item(),
        "tier": said.tiers[0].item(),
        "offloaded": said.offloaded[0].item(),
        "fallback": said.causes[0].item() or None,
        "fallback_behind": said.fallback_behind[0].item(),
        "absent": list(gathered.absent),
    }


def _number(text: str) -> int | str:
    """Return the number of a camera; the text, where it is none that a camera could have."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _frame(headers: Headers, body: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return the frame of a body, of whatever shape and type its message says.

    Raises:
        ValueError: If it is no message, or its bytes are not as many as a frame's.
    """
    text = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
    if HEADER_LENGTH.lower() in text:
        tensors = decode(text, body).tensors
        if [*tensors] != [FRAME]:
            raise ValueError(f"expected one tensor, {FRAME}; received {', '.join(tensors)}")
        return tensors[FRAME]
    if len(body) != prod(shape):
        raise ValueError(
            f"expected {prod(shape)} bytes, a frame of uint8 {shape} in C order, or a message with "
            f"the HTTP header {HEADER_LENGTH}; received {len(body)}"
        )
    return np.frombuffer(body, np.uint8).reshape(shape)
