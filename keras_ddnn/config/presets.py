"""Recipes that have a name."""

from dataclasses import fields, replace

from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.files.checks import require_choice

# Super-convergence (Smith & Topin, 2018): a high learning rate, warmed up and annealed once.
_one_cycle = DDNNConfig(schedule="one_cycle", learning_rate=3e-3, batch_size=256, dropout=0.1)
# Of `airbench94_muon` (Jordan, 2024), for the networks named modern_….
_muon = DDNNConfig(
    optimizer="muon",
    learning_rate=0.12,
    schedule="linear",
    label_smoothing=0.2,
    batch_size=500,
    augmentation="crop_flip",
)

PRESETS = {
    # The recipe of the paper.
    "paper": DDNNConfig(),
    # The paper's accuracies in half its epochs.
    "fast": replace(_one_cycle, epochs=10, augmentation="flip"),
    # Better than the paper on both networks; augmentation keeps the training bank unbiased.
    "strong": replace(_one_cycle, epochs=22, augmentation="crop_flip"),
    # Networks of today: the one of the cloud, and small ones, which gain from longer training.
    "modern": replace(_muon, epochs=25),
    "modern_long": replace(_muon, epochs=64),
    # For the embedded cluttered_digits, whose classes a mirror image would confuse.
    "quickstart": replace(_one_cycle, epochs=5, batch_size=128, augmentation="crop"),
    # Networks of windows of series, which no augmentation fits.
    "series": replace(_one_cycle, epochs=20),
}


def resolve_config(config: DDNNConfig | str | None = None, **overrides) -> DDNNConfig:
    """Return a preset (by name; "paper" when None) or the given config with fields replaced.

    Raises:
        ValueError: If the preset or a field is unknown, or a value lies outside its range.
    """
    if config is None or isinstance(config, str):
        name = config or "paper"
        require_choice("preset", name, PRESETS)
        config = PRESETS[name]
    known = [field.name for field in fields(config)]
    for name in overrides:
        require_choice("DDNNConfig field", name, known)
    return replace(config, **overrides)
