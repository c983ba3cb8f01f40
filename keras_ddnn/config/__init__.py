"""What is built and how it is trained, as frozen, validated records, and the named presets."""

from keras_ddnn.config.head import STACKED_ALIKE, HeadArchitecture, HeadConfig
from keras_ddnn.config.network import BOTTLENECK_BLOCK, PaperOptions, feature_quantisation
from keras_ddnn.config.presets import PRESETS, resolve_config
from keras_ddnn.config.training import (
    NARROW_EPOCH_SHARE,
    Augmentation,
    DDNNConfig,
    Precision,
    Schedule,
    TrainingConfig,
)
from keras_ddnn.files.records import as_json

__all__ = [
    "BOTTLENECK_BLOCK",
    "NARROW_EPOCH_SHARE",
    "PRESETS",
    "STACKED_ALIKE",
    "Augmentation",
    "DDNNConfig",
    "HeadArchitecture",
    "HeadConfig",
    "PaperOptions",
    "Precision",
    "Schedule",
    "TrainingConfig",
    "as_json",
    "feature_quantisation",
    "resolve_config",
]
