"""The experiments of the paper: what each of them searches, and what is kept of it."""

from collections.abc import Callable
from dataclasses import dataclass

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.labels.sources import STAGES
from keras_ddnn.tasks.classification import COSTS
from tune.measures import (
    EPOCHS,
    PAPER_FRACTION,
    co_trained_network,
    measure_heads,
    measure_logits,
    measure_mc_dropout,
    measure_stages,
    measure_thresholds,
    measure_weights,
)
from tune.space import SearchConfig
from tune.specs import NetworkSpec
from tune.study import Finished

TENTHS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
MC_DROPOUT = 0.25


@dataclass(frozen=True)
class Scale:
    """How much of the paper is repeated.

    Attributes:
        ddnn: Preset of all backbones but those of the sweep over λ, which are "fast".
        weights: λ of the sweep.
        fractions: L0 of the heads on features and images.
        seeds: Of all experiments but the sweep.
        sweep_seeds: Of the sweep.
        share: Whether the sweep's backbones are kept with the others, which then take the place of
            one of them. In full they take 70 GB, and are deleted seed by seed.
    """

    ddnn: str
    weights: tuple
    fractions: tuple[float, ...]
    seeds: tuple[int, ...]
    sweep_seeds: tuple[int, ...]
    share: bool


FULL = Scale(
    "paper",
    weights=(*TENTHS, "random"),
    fractions=(*TENTHS, PAPER_FRACTION),
    seeds=tuple(range(5)),
    sweep_seeds=tuple(range(7)),
    share=False,
)
QUICK = Scale(
    "fast",
    weights=(0.1, 0.5, 0.9, "random"),
    fractions=(0.1, 0.3, PAPER_FRACTION, 0.7, 0.9),
    seeds=(0,),
    sweep_seeds=(0,),
    share=True,
)


@dataclass(frozen=True)
class Experiment:
    """One experiment, which is run seed by seed.

    Attributes:
        choices: `Scale` → the fields of its `SearchConfig` that are its own.
        measure: `Finished` → what is kept: stem of a file → table, or dictionary of arrays.
        further: Its search → backbones that it needs beside those of the search.
        sweep: Whether it is the sweep over λ.
    """

    choices: Callable[[Scale], dict]
    measure: Callable[[Finished], dict]
    further: Callable[[SearchConfig], tuple[NetworkSpec, ...]] = lambda search: ()
    sweep: bool = False

    def seeds(self, scale: Scale) -> tuple[int, ...]:
        """Return the seeds it is run on."""
        return scale.sweep_seeds if self.sweep else scale.seeds

    def search(self, scale: Scale, dataset: str, epochs: int | None, seed: int) -> SearchConfig:
        """Return what it searches on one seed; `epochs` are those of the DDNNs."""
        # Late epochs are of use to one experiment alone; with them all have the same backbone.
        shares = scale.share or not self.sweep
        common = {
            "ddnn": "fast" if self.sweep else scale.ddnn,
            "stages": min(STAGES, epochs or STAGES) if shares else 0,
            "patience": EPOCHS,
            "local_fraction": (PAPER_FRACTION,),
        }
        return SearchConfig(
            dataset=dataset, epochs=epochs, seed=(seed,), **common | self.choices(scale)
        )


# --- the experiments -----------------------------------------------------------------------------

# The head of Figure 9, which the future work starts from, and ours, for what is not about heads. A
# search names its targets: they are what it compares.
_PAPER = {"input": ("logits_plus",), "architecture": ("paper_mlp",), "depth": (4,)}
_OURS = {"input": (HeadConfig.input,), "target": ("distilled",), "anchored": (True,)}

EXPERIMENTS = {
    # Figures 2, 3 and 12, section 6.1: the paper's head on features and on images.
    "thresholds": Experiment(
        lambda scale: {
            "input": ("features", "image"),
            "architecture": ("paper_mlp",),
            "local_fraction": scale.fractions,
        },
        measure_thresholds,
    ),
    # Figures 6 to 8: the shallow convolution head, by layers a block.
    "conv": Experiment(
        lambda scale: {"input": ("features",), "architecture": ("conv",), "depth": (1, 2, 3, 4)},
        lambda finished: measure_heads(finished, lambda trial: f"conv{trial.head.depth}"),
    ),
    # Figures 10 and 11, section 7.4.2: logits and logits+; where logits+ and the oracle differ.
    "logits": Experiment(
        lambda scale: _PAPER | {"input": ("logits", "logits_plus")}, measure_logits
    ),
    # Future work, each beside the plain head: losses and oversampling,
    "losses": Experiment(
        lambda scale: (
            _PAPER | {"loss": ("bce", "weighted_bce", "focal"), "oversample": (False, True)}
        ),
        lambda finished: measure_heads(
            finished, lambda trial: trial.head.loss + "_smote" * trial.head.oversample
        ),
    ),
    # refined costs,
    "costs": Experiment(
        lambda scale: _PAPER | {"cost": tuple(COSTS)},
        # "margin" is a rule too
        lambda finished: measure_heads(finished, lambda trial: f"cost_{trial.head.cost}"),
    ),
    # B_k averaged over stages, and co-training.
    "stages": Experiment(
        lambda scale: _PAPER | {"labels": ("final_epoch", "stage_averaged")},
        measure_stages,
        co_trained_network,
    ),
    # What the introduction names as the alternative: Monte-Carlo dropout of the local network.
    "mc_dropout": Experiment(
        lambda scale: _OURS | {"local_dropout": MC_DROPOUT, "stages": 0}, measure_mc_dropout
    ),
    # Figure 4: the weight of the local loss.
    "weights": Experiment(
        lambda scale: _OURS | {"lambda_local": scale.weights}, measure_weights, sweep=True
    ),
}
