"""Muon for convolutional networks: momentum whose singular values are all brought near 1."""

from typing import Any

import keras
from keras import layers, ops

from keras_ddnn.networks.layers import Bias
from keras_ddnn.networks.wiring import readers_of, wiring

RATE = 0.24  # of the source, to which the shares and the decay belong
NEWTON_SCHULZ_STEPS = 3
MOMENTUM = 0.6  # of the kernels of convolutions; Nesterov's, as is the other
OTHERS_MOMENTUM = 0.85
# Learning rates of all other variables, as shares of that of the kernels, per sample of a batch.
MATRIX_SHARE = 0.67 / RATE
VECTOR_SHARE = 0.053 / RATE
DECAY = 2e-6  # of those variables, a step and per sample of a batch, at the highest learning rate
TINY = 1e-7
NORMALISES = (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization)
LETS_THROUGH = (Bias, layers.MaxPooling2D, layers.AveragePooling2D)


@keras.saving.register_keras_serializable(package="keras_ddnn")
class ConvolutionalMuon(keras.optimizers.Optimizer):
    """Muon for the kernels of convolutions, SGD with Nesterov momentum for all else.

    A kernel of c filters is read as a matrix of c columns. Its momentum is made orthogonal, and its
    norm is kept at √c: behind each convolution the network is to have a batch normalisation.
    `keras.optimizers.Muon` does so for matrices alone, and gives these kernels to AdamW.

    SGD follows the loss summed over the samples of a batch, by which its rates do not depend on the
    size of the batch; a mean is multiplied by `batch_size`.

    Source: Jordan, "airbench94_muon", 2024; Jordan et al., "Muon", 2024.

    Args:
        learning_rate: Of the kernels; all others follow it. 0.24 is that of the source.
        batch_size: Samples that the loss is the mean of.
        **options: Of `keras.optimizers.Optimizer`.
    """

    def __init__(self, learning_rate: Any = RATE, batch_size: int = 1, **options: Any):
        super().__init__(learning_rate=learning_rate, **{"name": "muon"} | options)
        self.batch_size = batch_size
        self._orthogonal = keras.optimizers.Muon().zeropower_via_newtonschulz5

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the optimizer."""
        return super().get_config() | {"batch_size": self.batch_size}

    def build(self, variables: list[keras.Variable]) -> None:
        """Make a momentum of each variable."""
        if self.built:
            return
        super().build(variables)
        self._momenta = [
            self.add_variable_from_reference(variable, name="momentum") for variable in variables
        ]

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Change one variable by its gradient."""
        momentum = self._momenta[self._get_variable_index(variable)]
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        if len(variable.shape) == 4:
            self.assign(momentum, MOMENTUM * momentum + gradient)
            step = gradient + MOMENTUM * momentum
            filters = variable.shape[-1]
            matrix = ops.reshape(step, (-1, filters))
            step = ops.reshape(self._orthogonal(matrix, NEWTON_SCHULZ_STEPS), variable.shape)
            norm = ops.norm(ops.reshape(variable, (-1,))) + TINY
            self.assign(variable, variable * (filters**0.5 / norm) - rate * step)
            return
        share = MATRIX_SHARE if len(variable.shape) == 2 else VECTOR_SHARE
        # The decay is that of the source at its rate, and falls with the rate.
        decay = DECAY / RATE / share
        gradient = self.batch_size * (gradient + decay * variable)
        self.assign(momentum, OTHERS_MOMENTUM * momentum + gradient)
        self.assign_sub(variable, share * rate * (gradient + OTHERS_MOMENTUM * momentum))


def unnormalised(model: keras.Model) -> list[str]:
    """Return which convolutions Muon is not made for: nothing takes back the scale it gives them.

    Args:
        model: Functional.

    Returns:
        Names of the layers of a kernel of four axes, to be trained, whose values reach something
            else than a normalisation.
    """
    readers = readers_of(wiring(model))
    known = {layer.name: layer for layer in model.layers}

    def normalised(name: str) -> bool:
        behind = [known.get(reader) for reader in readers[name]]
        return bool(behind) and all(
            isinstance(layer, NORMALISES)
            or (isinstance(layer, LETS_THROUGH) and normalised(layer.name))
            for layer in behind
        )

    return [
        layer.name
        for layer in model.layers
        if not isinstance(layer, keras.Model)
        if any(len(weight.shape) == 4 for weight in layer.trainable_weights)
        if not normalised(layer.name)
    ]
