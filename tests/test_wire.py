"""Messages: what is sent arrives, and what is malformed is refused with a reason."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from keras_ddnn.serve.protocol.wire import (
    DATATYPES,
    HEADER_LENGTH,
    Tensor,
    WireError,
    decode,
    encode,
)

FEATURES = Tensor("features", np.arange(12, dtype=np.float16).reshape(1, 2, 2, 3))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
ANY_ARRAY = st.sampled_from(list(DATATYPES.values())).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(max_dims=4, max_side=4))
)


def message(header, values=b""):
    """Return headers and body of a message whose header is any JSON."""
    text = json.dumps(header).encode()
    return {HEADER_LENGTH: str(len(text))}, text + values


def header_with(**changes):
    """Return a good header with a few fields of its one tensor changed."""
    record = {"name": "x", "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}}
    return {"inputs": [record | changes]}


def refusal(headers, body):
    with pytest.raises(WireError) as error:
        decode(headers, body)
    return str(error.value)


@given(
    st.dictionaries(st.text(max_size=8), ANY_ARRAY, min_size=1, max_size=3),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers() | st.booleans()),
    st.none() | st.text(min_size=1, max_size=20),
    st.sampled_from(["inputs", "outputs"]),
)
def test_what_is_sent_arrives(sent, parameters, request_id, kind):
    tensors = [Tensor(name, array) for name, array in sent.items()]
    headers, body = encode(tensors, parameters=parameters, request_id=request_id, kind=kind)
    received = decode(headers, body, kind)
    assert received.tensors.keys() == sent.keys()
    for name, array in sent.items():
        assert received.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(received.tensors[name], array)
    assert (received.parameters, received.id) == (parameters, request_id)


def test_the_bytes_are_those_of_the_protocol():
    headers, body = encode([Tensor("x", np.array([1, 258], ">i4"))], request_id="a")
    length = int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:length]) == {
        "id": "a",
        "inputs": [
            {
                "name": "x",
                "shape": [2],
                "datatype": "INT32",
                "parameters": {"binary_data_size": 8},
            }
        ],
    }
    assert body[length:] == bytes([1, 0, 0, 0, 2, 1, 0, 0])


def test_the_case_of_http_headers_does_not_matter():
    headers, body = encode([FEATURES])
    decode({name.upper(): value for name, value in headers.items()}, body)


def test_an_array_of_another_type_is_not_sent():
    with pytest.raises(ValueError, match="received complex128"):
        encode([Tensor("x", np.zeros(2, complex))])


@given(st.integers(0, 10_000))
def test_a_truncated_message_is_refused(end):
    headers, body = encode([FEATURES])
    refusal(headers, body[: end % len(body)])


def test_trailing_bytes_are_refused():
    headers, body = encode([FEATURES])
    assert "must end after" in refusal(headers, body + b"\0")


@pytest.mark.parametrize(
    "length", ["", "-1", "1.0", "٣", "0x10", "9" * 5000, "20000", "abc", "1,1"]
)
def test_a_length_that_is_none_is_refused(length):
    assert HEADER_LENGTH in refusal({HEADER_LENGTH: length}, encode([FEATURES])[1])


def test_a_message_without_the_length_is_refused():
    assert "received none" in refusal({}, encode([FEATURES])[1])


@given(st.integers(0, 200))
def test_a_lying_length_is_refused(length):
    headers, body = encode([FEATURES])
    if headers[HEADER_LENGTH] != str(length):
        refusal({HEADER_LENGTH: str(length)}, body)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": 3}, "name of a tensor must be a string"),
        ({"shape": [-2]}, "positive integers"),
        ({"shape": [-1, -2]}, "positive integers"),
        ({"shape": [0]}, "positive integers"),
        ({"shape": [True, 2]}, "positive integers"),
        ({"shape": [2.0]}, "positive integers"),
        ({"shape": []}, "positive integers"),
        ({"shape": [1] * 70 + [2]}, "positive integers"),
        ({"shape": 2}, "positive integers"),
        ({"shape": [2**62, 4, 2]}, "binary_data_size must be"),
        ({"shape": [2**32, 2**32]}, "binary_data_size must be"),
        ({"shape": [3]}, "binary_data_size must be 3"),
        ({"shape": [4], "parameters": {"binary_data_size": 4}}, "the body has 2 left"),
        ({"shape": [1], "parameters": {"binary_data_size": 1}}, "must end after"),
        ({"parameters": {"binary_data_size": True}}, "must be an integer"),
        ({"parameters": {"binary_data_size": -2}}, "binary_data_size must be 2"),
        ({"parameters": {}}, "must be an integer"),
        ({"parameters": []}, "plain values"),
        ({"parameters": None}, "plain values"),
        ({"datatype": "BYTES"}, "datatype must be one of"),
        ({"datatype": "FP16"}, "binary_data_size must be 4"),
        ({"datatype": ["UINT8"]}, "datatype must be one of"),
    ],
)
def test_a_malformed_tensor_is_refused_with_the_reason(changes, reason):
    assert reason in refusal(*message(header_with(**changes), b"\0\1"))


@pytest.mark.parametrize(
    "header", [[], {}, {"inputs": []}, {"inputs": {}}, {"inputs": [3]}, {"inputs": [None] * 9}]
)
def test_a_header_without_tensors_is_refused(header):
    refusal(*message(header))


@pytest.mark.parametrize("field", [{"id": 3}, {"id": "x" * 129}, {"parameters": {"a": []}}])
def test_other_malformed_fields_are_refused(field):
    refusal(*message(header_with() | field, b"\0\1"))


def test_a_tensor_that_comes_twice_is_refused():
    record = header_with()["inputs"][0]
    assert "once" in refusal(*message({"inputs": [record, record]}, bytes(4)))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"NaN", b"[" * 16_000, b'{"id": ' + b"9" * 9000 + b"}"]
)
def test_text_that_is_no_json_is_refused(text):
    assert "JSON" in refusal({HEADER_LENGTH: str(len(text))}, text)


@given(JSON, st.binary(max_size=16))
def test_any_header_is_refused_or_understood(header, values):
    headers, body = message(header, values)
    refusal(headers, body)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "shape", "datatype"), JSON)),
    st.binary(max_size=16),
)
def test_any_tensor_is_refused_or_understood(changes, values):
    try:
        (array,) = decode(*message(header_with(**changes), values)).tensors.values()
    except WireError as refused:
        reason = str(refused)
        assert "\n" not in reason
        assert len(reason) < 400
    else:
        assert array.nbytes == len(values) == 2


@given(st.binary(max_size=64), st.text(max_size=6))
def test_noise_is_refused(body, length):
    refusal({HEADER_LENGTH: length}, body)
