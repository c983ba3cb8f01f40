"""The network of the paper: its options, and the codes that they let it send."""

from dataclasses import dataclass
from itertools import chain

from keras_ddnn.data.quantisation import BOTTLENECK_CODES, Quantisation
from keras_ddnn.files.checks import require_count, require_fraction, require_switch

BOTTLENECK_BLOCK = 2  # side of the square of places that a bottleneck narrows together


@dataclass(frozen=True, kw_only=True)
class PaperOptions:
    """Architecture of the networks of the paper, which are the defaults.

    Attributes:
        local_filters, local_pool, local_units: The local network: 3×3 convolution, optional 2×2
            max-pooling, then flatten → dense → logits.
        local_dropout: Share of the inputs of both these dense layers that is left out at random;
            the paper has none. `MCDropout` needs some.
        cloud_filters, cloud_units, dropout: The cloud network: one tuple of 3×3 convolution widths
            a block, each block ending in 2×2 pooling; then the dense widths. `dropout` acts after
            each block and each dense layer.
        bottleneck: Channels of the map that a device sends, an even number, of half the sides of
            the local feature map, in 4-bit codes it is trained with; see `feature_quantisation`
            and `DDNNConfig.wide_epochs`. None sends the whole local feature map.

    Raises:
        ValueError: If a field lies outside its range.
    """

    local_filters: int = 32
    local_pool: bool = True
    local_units: int = 64
    local_dropout: float = 0.0
    cloud_filters: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64, 128))
    cloud_units: tuple[int, ...] = (256, 64)
    dropout: float = 0.25
    bottleneck: int | None = None

    def __post_init__(self):
        # Normalise types so that equal configs hash alike.
        object.__setattr__(self, "cloud_filters", tuple(tuple(b) for b in self.cloud_filters))
        object.__setattr__(self, "cloud_units", tuple(self.cloud_units))
        require_fraction("local_dropout", self.local_dropout)
        require_fraction("dropout", self.dropout)
        require_switch(local_pool=self.local_pool)
        require_count(local_filters=self.local_filters, local_units=self.local_units)
        if self.bottleneck is not None:
            require_count(bottleneck=self.bottleneck)
            most = BOTTLENECK_BLOCK**2 * self.local_filters
            if self.bottleneck % 2 or self.bottleneck > most:
                raise ValueError(
                    "bottleneck must be even, as two codes make a byte, and at most the "
                    f"{most} channels of {BOTTLENECK_BLOCK}×{BOTTLENECK_BLOCK} places; received "
                    f"{self.bottleneck}"
                )
        if not all(self.cloud_filters):
            raise ValueError(
                f"every block of cloud_filters needs a width; received {self.cloud_filters}"
            )
        for width in chain(*self.cloud_filters, self.cloud_units):
            require_count(cloud_width=width)


def feature_quantisation(config: PaperOptions) -> Quantisation | None:
    """Return the codes of the features of a DDNN that are sent without loss.

    With a bottleneck all features are values of these codes; without one None, and a
    `Quantisation` must be fitted to features, to half a step.
    """
    return None if config.bottleneck is None else BOTTLENECK_CODES
