"""The tables of `tune.cameras`, made of what the networks said of validation and test samples.

Overall accuracy is that of a threshold of the entropy, one of `THRESHOLDS`, that is the best on
validation samples. All accuracies are in percent, with a 95% t interval over seeds.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Splits
from keras_ddnn.data.outputs import TIERS
from keras_ddnn.evaluation.statistics import over_seeds
from keras_ddnn.rules.confidence import Entropy
from tune.cameras_training import Network, stored_name

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SCORE_BYTES = 4  # of each class, which every device always sends to the local aggregator
FACTS = ("sent_bytes", "frame_bytes")  # what the tables tell of a network's costs
COLUMNS = ("local", "cloud", "overall")
# The least that each should be: points of accuracy, and percent of what more cameras gain.
BARS = {
    "over_best": 10.0,  # all cameras, less the local exit of the best alone
    "over_trained_on_others": -1.5,  # a camera fails, less a network that never had it
    "gain_kept": 60.0,  # where a camera fails, of the gain over the best alone
}
# What is compared, and with which exit of the best camera alone.
EXITS = {"local": ("local", "local"), "system": ("overall", "local"), "overall": ("overall",) * 2}


@dataclass(frozen=True, eq=False)
class Said:
    """What a network of one seed said, with some cameras black.

    Attributes:
        val, test: Its samples.
        facts: What it cost; see `train_network`.
        seed: Of its training, by which differences are paired.
    """

    val: Bank
    test: Bank
    facts: dict
    seed: int

    @classmethod
    def read(cls, path: Path, splits: Splits, seed: int, absent: tuple[int, ...] = ()) -> "Said":
        """Read it from the files of a network.

        Raises:
            ValueError: If one of them is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                banks = {
                    part: Bank.from_outputs(
                        {
                            t: content[stored_name(part, t, absent)].astype(np.float32)
                            for t in TIERS
                        },
                        getattr(splits, part).labels,
                    )
                    for part in ("val", "test")
                }
            facts = json.loads(path.with_suffix(".json").read_text())
            facts = {name: facts[name] for name in FACTS}
        except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
            raise ValueError(
                f"{path} and its .json cannot be read ({error}): delete them, and run the same "
                "command without --tables-only"
            ) from None
        return cls(**banks, facts=facts, seed=seed)

    def at(self, threshold: float, part: str = "test") -> tuple[float, float]:
        """Return the local fraction and the accuracy in percent at a threshold of the entropy."""
        bank = getattr(self, part)
        local = Entropy().score(bank.edge) < threshold
        right = np.where(local, bank.local_correct, bank.cloud_correct)
        return float(local.mean()), 100 * float(right.mean())

    @cached_property
    def threshold(self) -> float:
        """The threshold of `THRESHOLDS` that is most accurate on validation samples, the highest.

        The highest sends least.
        """
        return max(THRESHOLDS, key=lambda threshold: (self.at(threshold, "val")[1], threshold))

    def accuracies(self, threshold: float | None = None, part: str = "test") -> dict[str, float]:
        """Return the accuracies of `COLUMNS`, on test samples if not said otherwise, in percent."""
        local, cloud = getattr(self, part).local_correct, getattr(self, part).cloud_correct
        overall = self.at(self.threshold if threshold is None else threshold, part)[1]
        values = 100 * float(local.mean()), 100 * float(cloud.mean()), overall
        return dict(zip(COLUMNS, values))

    def sent(self, threshold: float) -> float:
        """Return the mean bytes that a device sends of a sample, its scores among them."""
        scores = SCORE_BYTES * self.test.cloud_logits.shape[1]
        return scores + (1 - self.at(threshold)[0]) * self.facts["sent_bytes"]


Reader = Callable[..., list[Said]]  # a network, cameras that are black → what each seed said


def aggregation(networks: Iterable[Network], read: Reader) -> pd.DataFrame:
    """Return a row a pair of aggregation schemes: accuracies, and bytes at the threshold."""
    rows = []
    for network in networks:
        if seeds := read(network):
            row = {"local_scheme": network.local, "cloud_scheme": network.cloud}
            rows.append(row | _row(seeds) | _means("bytes", [s.sent(s.threshold) for s in seeds]))
    return pd.DataFrame(rows)


def thresholds(network: Network, read: Reader) -> pd.DataFrame:
    """Return a row a threshold of the entropy: share kept local, accuracy and bytes of a device."""
    seeds, rows = read(network), []
    for threshold in THRESHOLDS if seeds else ():
        points = [said.at(threshold) for said in seeds]
        row = {"threshold": threshold, "seeds": len(seeds)}
        row |= _means("local_percent", [100 * share for share, _ in points])
        row |= _means("accuracy", [accuracy for _, accuracy in points])
        row |= _means("bytes", [said.sent(threshold) for said in seeds])
        row["frame_bytes"] = seeds[0].facts["frame_bytes"]
        rows.append(row)
    return pd.DataFrame(rows)


def best_first(cameras: int, read: Reader, tier: str = "cloud") -> list[int] | None:
    """Return the cameras by how accurate a tier of each alone is on validation samples.

    The best comes first. None until all of them are there.
    """
    alone = [read(Network(cameras=(camera,))) for camera in range(cameras)]
    if not all(alone):
        return None
    accuracy = [
        np.mean([getattr(s.val, f"{tier}_correct").mean() for s in seeds]) for seeds in alone
    ]
    return sorted(range(cameras), key=lambda camera: -accuracy[camera])


def added(cameras: int, read: Reader) -> pd.DataFrame:
    """Return a row a camera alone, and a row a number of cameras, of which the best come first."""
    order = best_first(cameras, read) or []
    sets = [("alone", (camera,)) for camera in range(cameras)]
    sets += [("added", tuple(order[:count])) for count in range(1, len(order) + 1)]
    rows = []
    for kind, chosen in sets:
        if seeds := read(Network().of(chosen, cameras)):
            said = "+".join(map(str, chosen))
            rows.append({"kind": kind, "cameras": said, "count": len(chosen)} | _row(seeds))
    return pd.DataFrame(rows)


def failing(cameras: int, networks: Sequence[Network], read: Reader) -> pd.DataFrame:
    """Return a row a camera that fails: networks that meet it, and one trained on the others.

    What meets a failure keeps its threshold, which was chosen when all cameras were there.
    """
    rows = []
    for failed in range(cameras):
        for network in networks:
            rows += _absent_row(
                {"failed": failed, "network": network.name}, network, [failed], read
            )
        for network in dict.fromkeys(_without(failed, like, cameras) for like in networks):
            if seeds := read(network):
                name = f"{network.schemes}, trained on the others"
                rows.append({"failed": failed, "network": name} | _row(seeds))
    return pd.DataFrame(rows)


def _without(failed: int, like: Network, cameras: int) -> Network:
    """Return the network that was trained on the other cameras."""
    return like.of([camera for camera in range(cameras) if camera != failed], cameras)


def knows_absences(cameras: int, networks: Sequence[Network], read: Reader) -> pd.DataFrame:
    """Return a row a network: accuracies on validation samples, by which one of them is chosen.

    They are means over none and each of the cameras absent, at the threshold of all cameras.
    """
    rows = []
    for network in networks:
        present = read(network)
        met = zip(*(read(network, absent) for absent in [(), *((c,) for c in range(cameras))]))
        said = [
            pd.DataFrame([each.accuracies(whole.threshold, "val") for each in seed]).mean()
            for whole, seed in zip(present, met, strict=True)
        ]
        if said:
            row = {"network": network.name, "seeds": len(said)}
            for column in COLUMNS:
                row |= _means(f"val_{column}", [each[column] for each in said])
            rows.append(row)
    return pd.DataFrame(rows)


def missing(cameras: int, networks: Sequence[Network], read: Reader) -> pd.DataFrame:
    """Return a row a network and a choice of up to two cameras that are absent."""
    rows = []
    for network in networks:
        for count in range(min(3, cameras)):
            for absent in combinations(range(cameras), count):
                head = {"network": network.name, "missing": count}
                head["absent"] = "+".join(map(str, absent))
                rows += _absent_row(head, network, absent, read)
    return pd.DataFrame(rows)


def bars(cameras: int, networks: Sequence[Network], read: Reader) -> pd.DataFrame:
    """Return what the study is held against: a row a bar, exit, network and camera that fails.

    Each value is paired by seed, so its interval is not that of two means. `needed` is the least
    that it should be. The best camera is chosen on validation samples, as each exit alone sees it;
    "system" compares all exits of a network with the local one of that camera. Networks that are
    compared were trained for as many epochs.
    """
    rows: list[dict] = []

    def tell(bar: str, exit: str, network: Network, failed: str, values: pd.Series) -> None:
        if len(values := values.dropna()):
            head = {"bar": bar, "exit": exit, "network": network.name, "failed": failed}
            head |= {"needed": BARS[bar], "seeds": len(values)}
            rows.append(head | _means("value", values.to_list()))

    for network, (exit, (column, of_best)) in product(networks, EXITS.items()):
        alone = _best_alone(network, of_best, cameras, read)
        gain = _by_seed(network, column, read) - alone
        if of_best == "local":
            tell("over_best", exit, network, "none", gain)
        gain, less, kept = gain.where(gain > 0), {}, {}  # of none no share can be kept
        for failed in range(cameras):
            left, name = _by_seed(network, column, read, (failed,)), str(failed)
            others = _without(failed, network, cameras)
            less[name] = left - _by_seed(others, column, read)
            kept[name] = 100 * (left - alone) / gain
        told = {"gain_kept": kept} | ({} if exit == "system" else {"over_trained_on_others": less})
        for bar, each in told.items():
            mean = pd.DataFrame(each).mean(axis=1, skipna=False)
            for name, values in (each | {"mean": mean}).items():
                tell(bar, exit, network, name, values)
    return pd.DataFrame(rows)


def _best_alone(like: Network, column: str, cameras: int, read: Reader) -> pd.Series:
    """Return an accuracy of each seed of the best camera alone, trained as long as a network."""
    order = best_first(cameras, read, "local" if column == "local" else "cloud")
    return _by_seed(like.of(order[:1], cameras), column, read) if order else pd.Series(dtype=float)


def _by_seed(
    network: Network, column: str, read: Reader, absent: tuple[int, ...] = ()
) -> pd.Series:
    """Return an accuracy of each seed, at the thresholds of all cameras."""
    pairs = zip(read(network), read(network, absent), strict=True)
    values = {said.seed: said.accuracies(whole.threshold)[column] for whole, said in pairs}
    return pd.Series(values, dtype=float)


def _absent_row(head: dict, network: Network, absent: Sequence[int], read: Reader) -> list[dict]:
    """Return the row of a network with cameras black, at the thresholds of all cameras."""
    present, seeds = read(network), read(network, tuple(absent))
    chosen = [said.threshold for said in present]
    return [head | _row(seeds, chosen)] if seeds else []


def _row(seeds: Sequence[Said], chosen: Sequence[float] | None = None) -> dict[str, float]:
    """Return seeds, accuracies and the share kept local, at given thresholds or its own."""
    chosen = [said.threshold for said in seeds] if chosen is None else chosen
    values = [said.accuracies(threshold) for said, threshold in zip(seeds, chosen, strict=True)]
    row: dict[str, float] = {"seeds": len(seeds)}
    for column in COLUMNS:
        row |= _means(column, [each[column] for each in values])
    shares = [100 * said.at(threshold)[0] for said, threshold in zip(seeds, chosen)]
    return row | _means("local_percent", shares)


def _means(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the mean over seeds and the ends of its interval, which one seed does not have."""
    if len(values) == 1:
        return {name: values[0], f"{name}_low": np.nan, f"{name}_high": np.nan}
    interval = over_seeds(values)
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
