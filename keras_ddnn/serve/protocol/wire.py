"""Tensors as bytes: the Open Inference Protocol v2 with its binary tensor data extension.

A message is a JSON header, whose length an HTTP header tells, and then the raw little-endian values
of its tensors, one after another:
https://github.com/kserve/open-inference-protocol and Triton's "binary tensor data extension".
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from reprlib import repr as brief
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["inputs", "outputs"]

HEADER_LENGTH = "Inference-Header-Content-Length"
CONTENT_TYPE = "application/octet-stream"
DATATYPES = {
    "UINT8": np.dtype("u1"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
}
DATATYPE_OF = {dtype: name for name, dtype in DATATYPES.items()}

# What a message may hold, so that a small one cannot cost much.
MAX_HEADER = 1 << 14  # bytes
MAX_TENSORS = 8
MAX_AXES = 8
MAX_ID = 128  # characters


class WireError(ValueError):
    """A message that is not one, and why."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array with a name.

    Attributes:
        name: What the other side knows it by.
        array: Array of any shape without a 0 and of a type in `DATATYPES`.
    """

    name: str
    array: np.ndarray


class Message(NamedTuple):
    """What a message says.

    Attributes:
        tensors: Read-only arrays by their names.
        parameters: Plain strings, numbers and booleans by their names.
        id: The sender's name for it; None where it gave none.
        wanted: Outputs that a request names, each with its parameters.
    """

    tensors: dict[str, np.ndarray]
    parameters: dict
    id: str | None
    wanted: tuple[tuple[str, dict], ...] = ()


def encode(
    tensors: Iterable[Tensor],
    *,
    request_id: str | None = None,
    parameters: Mapping | None = None,
    kind: Kind = "inputs",
    model_name: str | None = None,
) -> tuple[dict[str, str], bytes]:
    """Write a message.

    Args:
        tensors: What to send.
        request_id: A name for the request, repeated by its answer.
        parameters: Plain strings, numbers and booleans by their names.
        kind: "inputs" for a request, "outputs" for an answer.
        model_name: Model that an answer comes from.

    Returns:
        The HTTP headers and the body.

    Raises:
        ValueError: If an array is of no type in `DATATYPES`.
    """
    records, values = [], []
    for tensor in tensors:
        dtype = tensor.array.dtype.newbyteorder("<")
        if dtype not in DATATYPE_OF:
            raise ValueError(
                f"tensor {tensor.name!r} must be one of {', '.join(DATATYPES)}; received "
                f"{tensor.array.dtype}"
            )
        raw = tensor.array.astype(dtype, copy=False).tobytes()
        values.append(raw)
        records.append(
            {
                "name": tensor.name,
                "shape": list(tensor.array.shape),
                "datatype": DATATYPE_OF[dtype],
                "parameters": {"binary_data_size": len(raw)},
            }
        )
    optional = {"model_name": model_name, "id": request_id, "parameters": dict(parameters or {})}
    header = {name: value for name, value in optional.items() if value} | {kind: records}
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return (
        {"Content-Type": CONTENT_TYPE, HEADER_LENGTH: str(len(text))},
        b"".join([text, *values]),
    )


def decode(headers: Mapping[str, str], body: bytes, kind: Kind = "inputs") -> Message:
    """Read a message.

    Args:
        headers: The HTTP headers that came with it, in whatever case.
        body: Its bytes, all of them.
        kind: "inputs" for a request, "outputs" for an answer.

    Returns:
        Message: Its arrays are views of `body`.

    Raises:
        WireError: If anything in it is malformed, or more than its tensors need.
    """
    length = _header_length(headers, len(body))
    header = _parse(body[:length])
    request_id = header.get("id")
    if request_id is not None and not (isinstance(request_id, str) and len(request_id) <= MAX_ID):
        raise WireError(
            f"id must be a string of at most {MAX_ID} characters; received {brief(request_id)}"
        )
    records = header.get(kind)
    if not isinstance(records, list) or not 1 <= len(records) <= MAX_TENSORS:
        raise WireError(
            f"{kind} must be a list of 1 to {MAX_TENSORS} tensors; received {brief(records)}"
        )
    tensors, offset = {}, length
    for record in records:
        name, array = _tensor(record, body, offset)
        if name in tensors:
            raise WireError(f"tensor {brief(name)} must come once; received it twice")
        tensors[name] = array
        offset += array.nbytes
    if offset != len(body):
        raise WireError(f"the body must end after {offset} bytes; received {len(body)}")
    wanted = _wanted(header) if kind == "inputs" else ()
    return Message(tensors, _parameters(header, "the message"), request_id, wanted)


def _header_length(headers, size) -> int:
    text = {name.lower(): value for name, value in headers.items()}.get(HEADER_LENGTH.lower())
    if text is None:
        raise WireError(f"expected the HTTP header {HEADER_LENGTH}; received none")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_HEADER))):
        raise WireError(
            f"{HEADER_LENGTH} must be a number up to {MAX_HEADER}; received {brief(text)}"
        )
    length = int(text)
    if length > min(size, MAX_HEADER):
        raise WireError(
            f"{HEADER_LENGTH} must be at most {MAX_HEADER} and the length of the body, {size}; "
            f"received {length}"
        )
    return length


def _parse(text: bytes) -> dict:
    try:
        header = json.loads(text.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError too
        raise WireError(f"the header must be JSON in UTF-8: {brief(str(error))}") from None
    if not isinstance(header, dict):
        raise WireError(f"the header must be a JSON object; received {brief(header)}")
    return header


def _refuse_constant(name):
    raise ValueError(f"{name} is no JSON")


def _tensor(record, body, offset) -> tuple[str, np.ndarray]:
    if not isinstance(record, dict):
        raise WireError(f"a tensor must be a JSON object; received {brief(record)}")
    name, shape, datatype = (record.get(field) for field in ("name", "shape", "datatype"))
    if not isinstance(name, str):
        raise WireError(f"the name of a tensor must be a string; received {brief(name)}")
    what = f"tensor {brief(name)}"
    # Neither true nor 2.0 is an axis, though Python would count with them.
    if not (
        isinstance(shape, list)
        and 1 <= len(shape) <= MAX_AXES
        and all(type(axis) is int and axis > 0 for axis in shape)
    ):
        raise WireError(
            f"{what}: shape must be 1 to {MAX_AXES} positive integers; received {brief(shape)}"
        )
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise WireError(
            f"{what}: datatype must be one of {', '.join(DATATYPES)}; received {brief(datatype)}"
        )
    size = _parameters(record, what).get("binary_data_size")
    if type(size) is not int:
        raise WireError(f"{what}: binary_data_size must be an integer; received {brief(size)}")
    dtype = DATATYPES[datatype]
    expected = prod(shape) * dtype.itemsize
    if size != expected:
        raise WireError(
            f"{what}: binary_data_size must be {brief(expected)} for this shape and datatype; "
            f"received {brief(size)}"
        )
    if size > len(body) - offset:
        raise WireError(
            f"{what}: expected {brief(size)} bytes; the body has {len(body) - offset} left"
        )
    return name, np.frombuffer(body, dtype, prod(shape), offset).reshape(shape)


def _wanted(header) -> tuple[tuple[str, dict], ...]:
    records = header.get("outputs", [])
    if not isinstance(records, list) or len(records) > MAX_TENSORS:
        raise WireError(f"outputs must be a list of up to {MAX_TENSORS}; received {brief(records)}")
    for record in records:
        if not isinstance(record, dict) or not isinstance(record.get("name"), str):
            raise WireError(f"an output must be an object with a name; received {brief(record)}")
    return tuple(
        (record["name"], _parameters(record, f"output {brief(record['name'])}"))
        for record in records
    )


def _parameters(record, what) -> dict:
    parameters = record.get("parameters", {})
    if not isinstance(parameters, dict) or not all(
        isinstance(value, str | int | float) for value in parameters.values()
    ):
        raise WireError(
            f"{what}: parameters must be plain values by their names; received {brief(parameters)}"
        )
    return parameters
