"""Where the results of searches on one dataset are, found by the content of what made them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keras_ddnn.rules.confidence import Gate
from tune.cache import Records, backbone_key, trial_key
from tune.space import SearchConfig
from tune.specs import NetworkSpec, Trial

TRIALS, TENSORBOARD = "trials", "tensorboard"
RUN_DIGITS = 8  # of an address; two of 1,000 trials share them once in 8,000 searches


@dataclass(frozen=True)
class Workspace:
    """The trained networks of a dataset, and the folder of one search on them.

    Attributes:
        fingerprint: Of the dataset.
        backbones: Folder of trained networks, shared by searches.
        output: Folder of the search; None where networks alone are wanted.
        networks: (name, seed) → address of the untrained network, where it is not the paper's; see
            `tune.networks.addresses`.
    """

    fingerprint: str
    backbones: Path
    output: Path | None = None
    networks: Mapping[tuple[str, int], str] = field(default_factory=dict)

    def backbone(self, spec: NetworkSpec) -> Path:
        """Return the folder of a network, trained or not."""
        return self.backbones / backbone_key(self.fingerprint, spec, self._network(spec))

    def key(self, trial: Trial) -> str:
        """Return the content address of a trial."""
        return trial_key(self.fingerprint, trial, [*map(self._network, trial.members)])

    def log(self, work: NetworkSpec | Trial) -> Path:
        """Return the TensorBoard folder of a network or a trial.

        TensorBoard breaks a name that tells every choice over several lines. This one is short; the
        Text tab has the choices, and the table of the trials has the rest of their addresses.
        """
        is_network = isinstance(work, NetworkSpec)
        address = self.backbone(work).name if is_network else self.key(work)
        what = "net" if is_network else "head"
        return self.output / TENSORBOARD / f"{what}-{address[:RUN_DIGITS]}"

    def _network(self, spec: NetworkSpec) -> str | None:
        return spec.cut and self.networks[spec.cut.network, spec.ddnn.seed]

    @property
    def records(self) -> Records:
        """The finished trials of the search, whatever data they were made on."""
        return Records(self.output / TRIALS)

    def trials(self, search: SearchConfig) -> dict[Trial, dict]:
        """Return the finished trials of a search on these data with their records, by key."""
        records = ((key, search.trial(record["choices"]), record) for key, record in self.records)
        return {trial: record for key, trial, record in records if key == self.key(trial)}

    def head(self, trial: Trial, record: dict):
        """Return the `HeadRule` of a finished trial, with the history of its training."""
        return self.records.head(self.key(trial), record)

    def behind(self, trial: Trial, record: dict) -> dict[str, Gate]:
        """Return the gates behind the device of a finished trial, by the names of their tiers."""
        return self.records.behind(self.key(trial), record)
