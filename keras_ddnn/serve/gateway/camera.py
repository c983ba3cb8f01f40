"""A camera's side: a frame sent to a gateway, and what that says of the sample."""

import json
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from keras_ddnn.serve.protocol.causes import failure, refusal
from keras_ddnn.serve.protocol.connection import Connection
from keras_ddnn.serve.protocol.link import authorization, read_url
from keras_ddnn.serve.protocol.sockets import Host, tls_context
from keras_ddnn.serve.protocol.wire import Tensor, encode

FRAME = "frame"  # the name of the tensor


def send_frame(
    url: str,
    sample: str,
    camera: int,
    frame: np.ndarray,
    *,
    token: str | None = None,
    ca: Path | str | None = None,
    deadline_s: float = 1.0,
) -> dict[str, Any]:
    """Send a frame to a gateway, over a connection of its own, and wait for the answer.

    Args:
        url: "http://host:port" or "https://host:port" of the gateway.
        sample: The id that all cameras know the sample by.
        camera: Number of this camera, from 0.
        frame: uint8 (h, w, c).
        token: Bearer token of the gateway.
        ca: A PEM file; the gateway's certificate must be signed by one of these alone.
        deadline_s: Seconds for all of it; more than the gateway gathers and its runtime takes.

    Returns:
        What the gateway says of the sample; see `keras_ddnn.serve.gateway.service.make_gateway`.

    Raises:
        Unanswered: If the gateway refuses the frame, or there is no answer within the deadline; its
            message says why.
        ValueError: If an argument is of another form.
    """
    parts = read_url(url)
    headers, body = encode([Tensor(FRAME, frame)])
    headers |= authorization(token)
    connection = Connection(Host(parts.host, parts.port), tls_context(ca) if parts.secure else None)
    connection.deadline.at = time.monotonic() + deadline_s
    path = f"{parts.path}/samples/{quote(sample, safe='')}/cameras/{camera}"
    try:
        answer = connection.exchange(path, headers, body, method="PUT")
        if answer.status != 200:
            raise refusal(*answer)
        return json.loads(answer.body)
    except (OSError, HTTPException, ValueError) as error:
        raise failure(error) from error
    finally:
        connection.close()
