"""What a device may ask of the cloud: a message checked against the artefact that is served."""

from collections.abc import Callable, Mapping
from reprlib import repr as brief
from typing import NamedTuple

import numpy as np

from keras_ddnn.data.quantisation import Quantisation
from keras_ddnn.serve.protocol.answers import OUTPUTS, PROBABILITIES
from keras_ddnn.serve.protocol.limits import KEEP_ID, MAX_ANSWERED_LOCALLY, MAX_TIMEOUT
from keras_ddnn.serve.protocol.wire import Message, WireError
from keras_ddnn.tasks.known import task_of

PARAMETERS = ("model", "answered_locally", "binary_data_output", "timeout", "keep")
OUTPUT_PARAMETERS = ("binary_data",)


class InferRequest(NamedTuple):
    """A request that the network can answer.

    Attributes:
        features: Finite, of the type and shape that the artefact sends, float16 (n, h, w, f) for a
            feature map.
        images: What they come from, uint8 of shape (n, height, width, channels); None if not sent.
        answered_locally: Samples the device has answered itself since its last request.
        id: The device's name for the request; None where it gave none.
        timeout: Seconds that the device waits from when it sent; None where it does not say.
        outputs: Of `offered_outputs`, those that the answer shall have.
        keep: The id by which the images are to be kept, `KEEP_ID`; None if they are not.
    """

    features: np.ndarray
    images: np.ndarray | None
    answered_locally: int
    id: str | None
    timeout: float | None
    outputs: tuple[str, ...]
    keep: str | None


def offered_outputs(manifest: Mapping) -> tuple[str, ...]:
    """Return the outputs that a request may ask for, the last one by its name alone.

    Args:
        manifest: Of the artefact; only where its outputs are logits it has probabilities.
    """
    has_probabilities = PROBABILITIES in task_of(manifest).gives
    return (*OUTPUTS, PROBABILITIES) if has_probabilities else OUTPUTS


Reader = Callable[[Message], InferRequest]


def request_reader(manifest: Mapping, max_samples: int) -> Reader:
    """Return what reads requests to a model.

    Args:
        manifest: Manifest of its artefact; see `keras_ddnn.files.manifest.read_manifest`.
        max_samples: Most samples of one request.

    Returns:
        Message → InferRequest; it raises WireError, with a reason, for whatever does not suit the
        model.
    """
    sent, image_shape = manifest["features"], tuple(manifest["input_shape"])
    shape, are_inputs = tuple(sent["shape"]), sent["are_inputs"]
    may_share = manifest["input_dtype"] == "uint8"
    known = {"features", "images"} if may_share else {"features"}
    offered = offered_outputs(manifest)
    quantisation = Quantisation.from_json(sent["quantisation"])
    shapes = {sent["dtype"]: shape}
    if quantisation:
        shapes["uint8"] = quantisation.shape_of_codes(shape)

    def read(message: Message) -> InferRequest:
        tensors, parameters, request_id, wanted = message
        if are_inputs and may_share and tensors.keys() == {"images"}:
            tensors = tensors | {"features": tensors["images"]}  # sent once, and may be shown
        if tensors.keys() - known or "features" not in tensors:
            raise WireError(
                f"expected a tensor features{' and perhaps images' * may_share}; received "
                f"{brief(list(tensors))}"
            )
        _require_what_is_done(parameters, wanted, offered)
        local = _count(parameters, "answered_locally", MAX_ANSWERED_LOCALLY)
        # As in Triton, whose clients send it, in microseconds; 0 stands for none.
        timeout = _count(parameters, "timeout", MAX_TIMEOUT) / 1e6 or None
        features, images = tensors["features"], tensors.get("images")
        _require_samples("features", features, shapes)
        if len(features) > max_samples:
            raise WireError(f"expected at most {max_samples} samples; received {len(features)}")
        if images is not None:
            _require_samples("images", images, {"uint8": image_shape})
            if len(images) != len(features):
                raise WireError(f"expected {len(features)} images; received {len(images)}")
        if quantisation and features.dtype == np.uint8:
            features = quantisation.values(features).astype(np.float16)
        if features.dtype.kind == "f" and not np.isfinite(features).all():
            raise WireError("features must be finite")
        keep = parameters.get("keep")
        if keep is not None:
            if not isinstance(keep, str) or not KEEP_ID.fullmatch(keep):
                raise WireError(
                    f"keep must be 16 hex digits, a hyphen and a number; received {brief(keep)}"
                )
            if images is None:
                raise WireError("expected a tensor images of what is to be kept; received none")
        outputs = tuple(name for name, _ in wanted) or OUTPUTS
        return InferRequest(features, images, local, request_id, timeout, outputs, keep)

    return read


def _require_what_is_done(parameters, wanted, offered) -> None:
    """Refuse what the protocol knows and this service does not do, rather than pass over it."""
    names = [name for name, _ in wanted]
    if set(names) - set(offered) or len(set(names)) < len(names):
        raise WireError(
            f"expected the output logits, once, and perhaps {', '.join(offered[1:])}; received "
            f"{brief(names)}"
        )
    for known, given in (
        (PARAMETERS, parameters),
        *((OUTPUT_PARAMETERS, own) for _, own in wanted),
    ):
        if unknown := given.keys() - set(known):
            raise WireError(
                f"expected no parameters but {', '.join(known)}; received {brief(sorted(unknown))}"
            )
        for name in ("binary_data_output", "binary_data"):
            if given.get(name, True) is not True:
                raise WireError(f"{name} must be true; received {brief(given[name])}")


def _count(parameters, name, most) -> int:
    """Return a parameter that is an integer from 0; 0 if it is not there."""
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise WireError(f"{name} must be an integer in 0..{most}; received {brief(value)}")
    return value


def _require_samples(name, array, shapes):
    """Require one of the types, each of its own shape after the samples."""
    if array.dtype.name not in shapes:
        raise WireError(f"{name} must be {' or '.join(shapes)}; received {array.dtype.name}")
    if array.shape[1:] != shapes[array.dtype.name]:
        expected = ("n", *shapes[array.dtype.name])
        raise WireError(f"{name} must have shape {expected}; received {array.shape}")
