"""A camera's side: frames sent to a gateway, and what that says of their samples."""

import json
import time
from http.client import HTTPException
from pathlib import Path
from reprlib import repr as brief
from typing import Any
from urllib.parse import quote

import numpy as np

from keras_ddnn.files.checks import expect, is_integer, require_positive
from keras_ddnn.serve.protocol.causes import failure, refusal
from keras_ddnn.serve.protocol.connection import Pool
from keras_ddnn.serve.protocol.link import line_to
from keras_ddnn.serve.protocol.wire import MAX_ID, Tensor, encode

FRAME = "frame"  # the name of the tensor


def require_sample(sample: str) -> None:
    """Raise ValueError unless a sample has an id, by which all cameras know it."""
    is_id = isinstance(sample, str) and 1 <= len(sample) <= MAX_ID
    expect(is_id, "the id of a sample", f"a string of 1 to {MAX_ID} characters", brief(sample))


class Camera:
    """The line of one camera to a gateway: a connection that is kept from frame to frame.

    One frame is on its way at a time, whatever threads send. Use it in `with`, or close it.

    Args:
        url: "http://host:port" or "https://host:port" of the gateway.
        camera: Number of this camera, from 0.
        token: Bearer token of the gateway. It is said once, in the log, if it travels unencrypted
            to another machine.
        ca: A PEM file; the gateway's certificate must be signed by one of these alone.

    Raises:
        ValueError: If an argument is of another form.
    """

    def __init__(
        self,
        url: str,
        camera: int,
        *,
        token: str | None = None,
        ca: Path | str | None = None,
    ):
        number = is_integer(camera) and camera >= 0
        expect(number, "camera", "its number, an integer from 0 on", repr(camera))
        line = line_to(url, token, ca)
        self._path, self._headers, self._number = line.path, line.headers, camera
        self._pool, self._closed = Pool(line.connection, 1), False

    def send(self, sample: str, frame: np.ndarray, *, deadline_s: float = 1.0) -> dict[str, Any]:
        """Send a frame and wait for the answer.

        Args:
            sample: The id that all cameras know the sample by, of 1 to 128 characters.
            frame: uint8 (h, w, c), of the size that the gateway's artefact reads.
            deadline_s: Seconds for all of it; more than the gateway gathers and its runtime takes.

        Returns:
            What the gateway says of the sample; see
            `keras_ddnn.serve.gateway.service.make_gateway`.

        Raises:
            Unanswered: If the gateway refuses the frame, as one of another size, or there is no
                answer within the deadline; its message says why.
            ValueError: If an argument is of another form, or the camera is closed.
        """
        expect(not self._closed, "Camera.send", "a camera that is open", "a closed one: make anew")
        require_sample(sample)
        is_frame = isinstance(frame, np.ndarray)
        received = f"{frame.dtype} of shape {frame.shape}" if is_frame else type(frame).__name__
        fits = is_frame and frame.dtype == np.uint8 and frame.ndim == 3 and frame.size
        expect(fits, "frame", "an array, uint8 of shape (h, w, c)", received)
        require_positive(deadline_s=deadline_s)
        headers, body = encode([Tensor(FRAME, frame)])
        path = f"{self._path}/samples/{quote(sample, safe='')}/cameras/{self._number}"
        headers |= self._headers
        try:
            with self._pool.lend(time.monotonic() + deadline_s) as connection:
                answer = connection.exchange(path, headers, body, method="PUT")
            if answer.status != 200:
                raise refusal(*answer)
            return json.loads(answer.body)
        except (OSError, HTTPException, ValueError) as error:
            raise failure(error) from error

    def close(self) -> None:
        """Close the connection; no frame can be sent after it."""
        self._closed = True
        self._pool.close()

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
    """Send one frame over a connection of its own; see `Camera`, whose arguments it takes."""
    with Camera(url, camera, token=token, ca=ca) as line:
        return line.send(sample, frame, deadline_s=deadline_s)
