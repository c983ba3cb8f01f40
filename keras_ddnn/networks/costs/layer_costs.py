"""Multiply-adds of every layer that Keras has, for one sample; None where they are not known.

They are counted where sums of products are made: convolutions, matrices, attention. Biases and what
goes element by element are not counted: activations, pooling, normalisation, dropout,
preprocessing.

A layer of one's own is counted by its method `multiply_adds()`, which returns those of one call for
one sample. Without that method they are not known if the layer has weights, and 0 if it has none.
"""

from collections.abc import Callable, Iterable, Sequence
from math import prod

import keras
from keras import layers

from keras_ddnn.networks.costs.trace import Step, Trace

Shape = Sequence[int | None]


class _Unknown(Exception):
    """The multiply-adds of a call are not known."""


def step_multiply_adds(step: Step) -> int | None:
    """Return the multiply-adds of one call for one sample, None if they are not known."""
    try:
        return _count(step)
    except _Unknown:
        return None


def _count(step: Step) -> int:
    """Return the multiply-adds of a call; raises _Unknown."""
    operation = step.operation
    if isinstance(operation, keras.Function | keras.Sequential):
        counts = map(_count, Trace.of(operation, step.inputs[0].shape[1:]).steps)
        return sum(counts)
    if callable(own := getattr(operation, "multiply_adds", None)):
        return int(own())
    for kind in type(operation).__mro__:
        if kind in LAYERS:
            return LAYERS[kind](step)
        of_keras = kind.__module__.startswith("keras.")
        if of_keras and kind.__name__ in ELEMENTWISE:
            return 0
        if "call" in vars(kind) and not of_keras:
            break  # what it inherits does not tell what it does
    if not isinstance(operation, layers.Layer):
        return OPERATIONS.get(type(operation).__name__, _none)(step)
    if operation.weights:
        raise _Unknown
    return 0


def _size(shape: Iterable[int | None]) -> int:
    """Return how many values a shape has; raises _Unknown if a dimension is open."""
    sizes = list(shape)
    if None in sizes:
        raise _Unknown
    return prod(sizes)


def _call(layer: layers.Layer, tensor: keras.KerasTensor) -> Step:
    """Return the call of a layer that another layer wraps."""
    try:
        return Step.of(layer, tensor)
    except (TypeError, ValueError) as error:  # it does not tell the shape of its output
        raise _Unknown from error


def _none(step: Step) -> int:
    return 0


def _unknown(step: Step) -> int:
    raise _Unknown


def _places(layer: layers.Layer, shape: Shape) -> int:
    """Return in how many places a map (n, …, channels), or channels first, has values."""
    return _size(shape[2:] if layer.data_format == "channels_first" else shape[1:-1])


def _convolution(step: Step) -> int:
    layer = step.operation
    # Of n groups, each channel reads one n-th of the channels, and so says the kernel's shape.
    return _places(layer, step.outputs[0].shape) * _size(layer.kernel.shape)


def _separable(step: Step) -> int:
    layer = step.operation
    kernels = _size(layer.depthwise_kernel.shape) + _size(layer.pointwise_kernel.shape)
    return _places(layer, step.outputs[0].shape) * kernels


def _transposed(step: Step) -> int:
    """Each place of the input is multiplied with the whole kernel, and spread."""
    layer = step.operation
    return _places(layer, step.inputs[0].shape) * _size(layer.kernel.shape)


def _dense(step: Step) -> int:
    return _size(step.outputs[0].shape[1:-1]) * _size(step.operation.kernel.shape)


def _einsum_dense(step: Step) -> int:
    layer = step.operation
    return _einsum(layer.equation, [step.inputs[0].shape, layer.kernel.shape])


def _einsum(equation: str, shapes: Sequence[Shape]) -> int:
    """Return the product of the sizes of all its letters; the first axis of all is the sample's."""
    operands = equation.replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int | None] = {}
    for place, (letters, shape) in enumerate(zip(operands, shapes)):
        before, dots, behind = letters.partition("...")
        if dots:  # as many axes as are left, counted from the last
            free = len(shape) - len(before) - len(behind)
            axes = [*before, *(f"...{axis}" for axis in range(free, 0, -1)), *behind]
        else:
            axes = [*letters]
        sizes |= {axis: size for axis, size in zip(axes, shape) if sizes.get(axis) in (None, 1)}
        if place == 0:
            sizes[axes[0]] = 1
            sample = axes[0]
    return _size(size for axis, size in sizes.items() if axis != sample)


def _reversible_embedding(step: Step) -> int:
    reverse = step.kwargs.get("reverse", len(step.args) > 1 and step.args[1])
    if not reverse:
        return 0
    layer = step.operation
    return _size(step.outputs[0].shape[1:-1]) * layer.input_dim * layer.output_dim


def _recurrent(step: Step) -> int:
    return _size(step.inputs[0].shape[1:2]) * _cell(step.operation.cell)


def _cell(cell: layers.Layer) -> int:
    """Return the multiply-adds of one step in time."""
    if isinstance(cell, layers.StackedRNNCells):
        return sum(map(_cell, cell.cells))
    if isinstance(cell, layers.SimpleRNNCell | layers.LSTMCell | layers.GRUCell):
        return _size(cell.kernel.shape) + _size(cell.recurrent_kernel.shape)
    if callable(own := getattr(cell, "multiply_adds", None)):
        return int(own())
    raise _Unknown


def _one_cell(step: Step) -> int:
    return _cell(step.operation)


def _recurrent_convolution(step: Step) -> int:
    layer = step.operation
    shape = step.outputs[0].shape
    one = shape[:1] + shape[2:] if layer.return_sequences else shape  # (n, places…, filters)
    kernels = _size(layer.cell.kernel.shape) + _size(layer.cell.recurrent_kernel.shape)
    return _size(step.inputs[0].shape[1:2]) * _places(layer, one) * kernels


def _both_directions(step: Step) -> int:
    layer, sequence = step.operation, step.inputs[0]
    directions = layer.forward_layer, layer.backward_layer
    return sum(_count(_call(direction, sequence)) for direction in directions)


def _each_step(step: Step) -> int:
    sequence = step.inputs[0]
    one = keras.KerasTensor(sequence.shape[:1] + sequence.shape[2:], sequence.dtype)
    return _size(sequence.shape[1:2]) * _count(_call(step.operation.layer, one))


def _wrapped(step: Step) -> int:
    return _count(_call(step.operation.layer, step.inputs[0]))


def _query_value_key(step: Step) -> list[Shape]:
    """Return the shapes of query, value and key, which is the value if there is none."""
    given = dict(zip(("query", "value", "key"), step.args)) | dict(step.kwargs)
    value = given["value"]
    key = given.get("key")
    return [x.shape for x in (given["query"], value, value if key is None else key)]


def _multi_head_attention(step: Step) -> int:
    layer = step.operation
    query, _, key = _query_value_key(step)
    axes = layer.attention_axes or range(1, len(query) - 1)
    asked = _size(key[axis] for axis in ([axes] if isinstance(axes, int) else axes))
    queries, keys = _size(query[1:-1]), _size(key[1:-1])
    of_queries, of_keys = (
        sum(_size(projection.kernel.shape) for projection in projections)
        for projections in (
            (layer.query_dense, layer.output_dense),
            (layer.key_dense, layer.value_dense),
        )
    )
    # Each query is scored with the keys along the axes, and sums their values.
    pairs = layer.num_heads * queries * asked
    return queries * of_queries + keys * of_keys + pairs * (layer.key_dim + layer.value_dim)


def _group_query_attention(step: Step) -> int:
    layer = step.operation
    query, value, key = _query_value_key(step)
    queries, keys = _size(query[1:-1]), _size(key[1:-1])
    # Projections of a query and an output; its scores with all keys, and the sums of their values.
    of_queries = layer.num_query_heads * queries * (2 * query[-1] + 2 * keys)
    of_keys = layer.num_key_value_heads * keys * (key[-1] + value[-1])
    return layer.head_dim * (of_queries + of_keys)


def _attention(step: Step) -> int:
    """Scores of all pairs of a query and a key, and sums of the values by them."""
    query, value = (tensor.shape for tensor in step.inputs[:2])
    return _size(query[1:-1]) * _size([value[-2], query[-1] + value[-1]])


def _dot(step: Step) -> int:
    layer, (one, _) = step.operation, step.inputs
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return _size(step.outputs[0].shape[1:]) * _size([one.shape[axis]])


def _matmul(step: Step) -> int:
    first = step.args[0] if step.args else step.kwargs["x1"]
    return _size(step.outputs[0].shape[1:]) * _size([first.shape[-1]])


def _einsum_operation(step: Step) -> int:
    operands = step.args if step.args else step.kwargs["operands"]
    return _einsum(step.operation.subscripts, [operand.shape for operand in operands])


# A layer is counted by the row of its own class or, if it does not change `call`, of the nearest
# one it inherits from. Layers without weights that have no row count 0.
LAYERS: dict[type, Callable[[Step], int]] = {
    layers.Conv1D: _convolution,
    layers.Conv2D: _convolution,
    layers.Conv3D: _convolution,
    layers.DepthwiseConv1D: _convolution,
    layers.DepthwiseConv2D: _convolution,
    layers.SeparableConv1D: _separable,
    layers.SeparableConv2D: _separable,
    layers.Conv1DTranspose: _transposed,
    layers.Conv2DTranspose: _transposed,
    layers.Conv3DTranspose: _transposed,
    layers.Dense: _dense,
    layers.EinsumDense: _einsum_dense,
    layers.Embedding: _none,
    layers.ReversibleEmbedding: _reversible_embedding,
    layers.ConvLSTM1D: _recurrent_convolution,
    layers.ConvLSTM2D: _recurrent_convolution,
    layers.ConvLSTM3D: _recurrent_convolution,
    layers.RNN: _recurrent,  # SimpleRNN, LSTM and GRU inherit from it
    layers.SimpleRNNCell: _one_cell,
    layers.LSTMCell: _one_cell,
    layers.GRUCell: _one_cell,
    layers.StackedRNNCells: _one_cell,
    layers.Bidirectional: _both_directions,
    layers.TimeDistributed: _each_step,
    layers.SpectralNormalization: _wrapped,
    layers.MultiHeadAttention: _multi_head_attention,
    layers.GroupQueryAttention: _group_query_attention,
    layers.Attention: _attention,
    layers.AdditiveAttention: _attention,
    layers.Dot: _dot,
    layers.BatchNormalization: _none,
    layers.LayerNormalization: _none,
    layers.GroupNormalization: _none,
    layers.RMSNormalization: _none,
    layers.Normalization: _none,
    layers.PReLU: _none,
    layers.MelSpectrogram: _unknown,  # it has no weights, yet transforms
}

ELEMENTWISE = ("LayerScale",)  # of `keras.applications`, which does not export its class

# Operations of `keras.ops` that make sums of products, by the names of their classes; all others
# count 0.
OPERATIONS: dict[str, Callable[[Step], int]] = {
    "Matmul": _matmul,
    "Einsum": _einsum_operation,
} | dict.fromkeys(
    (
        *("Dot", "Inner", "Outer", "Vdot", "Tensordot", "Kron", "Cross", "Correlate", "CDist"),
        *("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose", "DotProductAttention"),
        *("FFT", "FFT2", "IFFT2", "RFFT", "IRFFT", "STFT", "ISTFT", "GaussianBlur", "SobelEdges"),
        *("Cholesky", "CholeskyInverse", "Det", "Eig", "Eigh", "Inv", "LuFactor", "Qr", "Solve"),
        *("SolveTriangular", "SVD", "Lstsq", "MatrixRank", "Pinv", "Slogdet", "Logdet"),
        *("Map", "Scan", "AssociativeScan", "WhileLoop", "ForiLoop", "Cond", "Switch"),
        "VectorizedMap",
    ),
    _unknown,
)
