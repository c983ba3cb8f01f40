"""What the networks of a seed of `tune.traffic` say: trained once, and kept in a folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.series.load import load_series
from keras_ddnn.data.series.windows import PARTS
from keras_ddnn.data.splits import Split
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.files.atomic import replacing_folder, write_json
from keras_ddnn.tasks.regression import Regression

# In units of the mean traffic of a cell: what is provided and not used costs 1 a unit; what is
# missing 4 a unit, and an agreement that is broken 0.5.
TASK = Regression(over=1.0, under=4.0, penalty=0.5, quantiles=(0.1, 0.5, 0.9), level=0.9)
DEVICE, CLOUD = "tcn_small", "tcn_large"
THINNED = "tcn_small_dropout"  # the device network for Monte-Carlo dropout
PASSES = 20
SECOND = "second"  # the other member of the ensemble, which ranks and does not answer
MEMBER_SEEDS = 10_000  # added to the seed of what ranks and does not answer
MORE = 2  # series that the ceiling learns from
TRAINING = {"epochs": 20, "batch_size": 256, "learning_rate": 3e-3, "schedule": "one_cycle"}
LENGTH = 24  # hours of a window


def settings(seed: int, epochs: int | None = None) -> dict[str, Any]:
    """Return what the networks of a seed are trained with, as plain JSON."""
    training = TRAINING | {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    return {"task": asdict(TASK) | {"quantiles": list(TASK.quantiles)}, "training": training}


@dataclass(frozen=True, eq=False)
class Said:
    """What the networks of a seed say.

    Attributes:
        banks: Part → its bank, of the tiers "local", "second" and "cloud": "train", "val" and
            "test", and "other0", … of series that trained nothing.
        dropout: "val" and "test" → scores of Monte-Carlo dropout, float (n,).
        multiply_adds: Tier, or "mc_dropout" → of one sample.
    """

    banks: Mapping[str, Bank]
    dropout: Mapping[str, np.ndarray]
    multiply_adds: Mapping[str, int]

    @property
    def others(self) -> list[Bank]:
        """The banks of series that trained nothing."""
        return [bank for part, bank in self.banks.items() if part not in PARTS]


def said_by_networks(seed: int, folder: Path, epochs: int | None = None) -> Said:
    """Return what the networks of a seed say; they are trained only if the folder is not there.

    Raises:
        ValueError: In one line, if the folder was made with other settings.
    """
    expected = settings(seed, epochs)
    if not folder.exists():
        _train(expected, folder)
    told = json.loads((folder / "settings.json").read_text())
    if {name: told[name] for name in expected} != expected:
        raise ValueError(
            f"{folder}: expected networks of today's settings; received others: remove it, or give "
            "another --work"
        )
    banks = {
        part: _with_windows(Bank.load(folder / f"{part}.npz"), split)
        for part, split in _parts(seed).items()
    }
    dropout = {part: np.load(folder / f"dropout_{part}.npy") for part in ("val", "test")}
    return Said(banks, dropout, told["multiply_adds"])


def _parts(seed: int) -> dict[str, Split]:
    """Return all windows of a seed: its own parts, then those of series of no seed."""
    seeds = [seed, *(1_000_000 + MORE * seed + number for number in range(MORE))]
    drawn = [load_series("cell_traffic", length=LENGTH, seed=each) for each in seeds]
    parts = [getattr(splits, part) for splits in drawn for part in PARTS]
    others = (f"other{number}" for number in range(MORE * len(PARTS)))
    return dict(zip([*PARTS, *others], parts, strict=True))


def _with_windows(bank: Bank, split: Split) -> Bank:
    """Return a bank with what the device read, which a chain sends as it is."""
    windows = np.asarray(split.images)
    first, edge = next(iter(bank.tiers.items()))
    edge = replace(edge, inputs=windows, features=windows)
    return replace(bank, tiers={**bank.tiers, first: edge})


def _train(run_with: Mapping[str, Any], folder: Path) -> None:
    """Train the networks of a seed, and keep what they say."""
    from keras_ddnn.heads.mc_dropout import MCDropout
    from keras_ddnn.networks.architectures.named_models import named_model
    from keras_ddnn.networks.compose import chain
    from keras_ddnn.networks.costs.model_costs import multiply_adds
    from keras_ddnn.training.capture import capture
    from keras_ddnn.training.fit import fit_ddnn

    seed = run_with["training"]["seed"]
    parts = _parts(seed)
    shape, outputs = parts["train"].images.shape[1:], len(TASK.quantiles)

    def trained(local: str, cloud: str, seed: int):
        models = {
            tier: named_model(name, shape, outputs, seed)
            for tier, name in (("local", local), ("cloud", cloud))
        }
        options = run_with["training"] | {"seed": seed}
        network = chain(models, task=TASK)
        fitted = fit_ddnn(parts["train"], parts["val"], network=network, verbose=0, **options)
        return fitted.cascade, {tier: multiply_adds(model) for tier, model in models.items()}

    main, costs = trained(DEVICE, CLOUD, seed)
    # Neither of these two reads what the other says.
    members, of_members = trained(THINNED, DEVICE, seed + MEMBER_SEEDS)
    dropout = MCDropout(members, PASSES, "deviation", seed)
    told = {SECOND: of_members["cloud"], "mc_dropout": dropout.multiply_adds}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(folder) as new:
        for part, split in parts.items():
            windows = np.asarray(split.images)
            bank, beside = (capture(network, windows, split.labels) for network in (main, members))
            local, cloud = bank.tiers.items()
            second = (SECOND, TierOutputs(beside.cloud_logits))
            replace(bank, tiers=dict([local, second, cloud])).with_features(None).save(
                new / f"{part}.npz"
            )
            if part in ("val", "test"):
                np.save(new / f"dropout_{part}.npy", dropout.score(bank.edge))
        write_json(new / "settings.json", {**run_with, "multiply_adds": costs | told})
