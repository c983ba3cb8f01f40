"""Networks of windows of series: temporal convolutions, and LSTM cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import layers

from keras_ddnn.files.checks import require_choice, require_count, require_fraction
from keras_ddnn.networks.paper import compute_policy

KINDS = ("tcn", "lstm")


@dataclass(frozen=True, kw_only=True)
class SeriesOptions:
    """Architecture of a network of windows.

    Attributes:
        kind: "tcn", causal convolutions of growing dilation; or "lstm".
        width: Channels, or units, of each block.
        blocks: Of "tcn" each doubles the dilation, of two convolutions; of "lstm" a layer each.
        kernel: Steps that a convolution reads.
        dropout: Share of the inputs of both dense layers that is left out at random in training;
            `MCDropout` needs some.

    Raises:
        ValueError: If a field lies outside its range.
    """

    kind: str = "tcn"
    width: int = 32
    blocks: int = 3
    kernel: int = 3
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_choice("kind of a network of series", self.kind, KINDS)
        require_count(width=self.width, blocks=self.blocks, kernel=self.kernel)
        require_fraction("dropout", self.dropout)


def build_series(
    input_shape: Sequence[int], outputs: int, options: SeriesOptions, precision: str = "auto"
) -> keras.Model:
    """Build a network of one output, which a chain takes for a tier, or `split` cuts.

    Blocks are named block_0, block_1, …: each is a place to cut. An LSTM is unrolled over the
    window, as a device runs no loop.

    Sources: Bai et al., "An Empirical Evaluation of Generic Convolutional and Recurrent Networks
    for Sequence Modeling", 2018; Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997.

    Args:
        input_shape: (length, channels) of windows of float32.
        outputs: Numbers, or classes.
        options: Architecture.
        precision: As of `TrainingConfig`.

    Returns:
        keras.Model: windows (n, length, channels) → float32 of shape (n, outputs).

    Raises:
        ValueError: If the input is no window.
    """
    if len(input_shape) != 2 or not all(input_shape):
        raise ValueError(f"input_shape must be (length, channels); received {tuple(input_shape)}")
    dtype = compute_policy(precision)
    windows = x = keras.Input(input_shape, dtype="float32", name="windows")
    for block in range(options.blocks):
        name, last = f"block_{block}", block == options.blocks - 1
        if options.kind == "lstm":
            x = layers.LSTM(
                options.width, return_sequences=not last, unroll=True, dtype=dtype, name=name
            )(x)
        else:
            x = _convolutions(x, options, 2**block, dtype, name)
    if options.kind == "tcn":
        # The last step has read the whole window, as far as its blocks reach.
        x = layers.Cropping1D((x.shape[1] - 1, 0), dtype=dtype, name="last_step")(x)
        x = layers.Flatten(dtype=dtype, name="flat")(x)
    x = _dropout(x, options, dtype, "dropout_of_blocks")
    x = layers.Dense(options.width, activation="relu", dtype=dtype, name="hidden")(x)
    x = _dropout(x, options, dtype, "dropout_of_hidden")
    answers = layers.Dense(outputs, dtype="float32", name="answers")(x)
    return keras.Model(windows, answers, name=options.kind)


def _dropout(
    x: keras.KerasTensor, options: SeriesOptions, dtype: str, name: str
) -> keras.KerasTensor:
    return layers.Dropout(options.dropout, dtype=dtype, name=name)(x) if options.dropout else x


def _convolutions(
    x: keras.KerasTensor, options: SeriesOptions, dilation: int, dtype: str, name: str
) -> keras.KerasTensor:
    """Return two causal convolutions of what they are added to."""
    before = x
    if x.shape[-1] != options.width:
        before = layers.Conv1D(options.width, 1, dtype=dtype, name=f"{name}_widen")(x)
    for place in range(2):
        x = layers.Conv1D(
            options.width,
            options.kernel,
            padding="causal",
            dilation_rate=dilation,
            activation="relu",
            dtype=dtype,
            name=f"{name}_conv_{place}",
        )(x)
    return layers.Add(dtype=dtype, name=name)([x, before])
