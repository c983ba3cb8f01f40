"""The network that a search keeps: what its heads are worth on test data, and what is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.splits import Splits
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.evaluation.chains import compare_plans, untrained_chain_rules
from keras_ddnn.evaluation.diagnostics import Diagnosis, diagnose
from keras_ddnn.evaluation.report import Report
from keras_ddnn.labels.gates import two_ends
from keras_ddnn.networks.cascade import Cascade
from keras_ddnn.pipeline import make_report
from keras_ddnn.rules.confidence import Gate, OffloadRule
from tune.space import SearchConfig
from tune.specs import Trial
from tune.stored import StoredNetwork
from tune.workspace import Workspace

BUDGETS = 12  # of the plans


@dataclass(frozen=True, eq=False)
class KeptNetwork:
    """The network of the best trial, and the best trial of every head input on it.

    Attributes:
        search: What was searched.
        splits: The data; those of test are read by `report` and `plans`.
        trial: The best.
        network: Its network, K tiers.
        heads: Input of a head → the head of the device, the best trial's first.
        gates: Input of a head → name of a tier → its gate, for all gates behind the device.
    """

    search: SearchConfig
    splits: Splits
    trial: Trial
    network: StoredNetwork
    heads: Mapping[str, OffloadRule]
    gates: Mapping[str, Mapping[str, Gate]]

    @classmethod
    def of(
        cls,
        search: SearchConfig,
        splits: Splits,
        workspace: Workspace,
        ranked: Mapping[Trial, dict],
    ) -> "KeptNetwork":
        """Read it, given the finished trials with their records, the best of them first."""
        best, heads, gates = next(iter(ranked)), {}, {}
        for trial, record in ranked.items():
            if trial.members == best.members and trial.head.input not in heads:
                heads[trial.head.input] = workspace.head(trial, record)
                gates[trial.head.input] = workspace.behind(trial, record)
        network = StoredNetwork.of(workspace, best.members, splits)
        return cls(search, splits, best, network, heads, gates)

    @property
    def behind(self) -> Mapping[str, Gate]:
        """The gates behind the device that are kept: those of the best trial."""
        return self.gates[self.trial.head.input]

    @cached_property
    def cascade(self) -> Cascade:
        """The network with its weights."""
        return self.network.cascade()

    @property
    def unit(self) -> str:
        """What prices are counted in."""
        return "tiers" if None in self.network.multiply_adds else "multiply-adds"

    def report(self) -> Report:
        """Compare the heads on test data as the device sees it, the kept gates behind all alike."""
        network, splits = self.network, self.splits
        report = make_report(
            splits.name,
            self.cascade,
            self.trial.ddnn,
            self.heads,
            network.val_bank,
            network.test_bank,
            self.search.target_fraction,
            class_names=splits.class_names,
            behind=self.behind,
            prices=network.prices,
        )
        if splits.drawn_by:
            report.facts["splits"] = splits.drawn_by
        return report

    def plans(self) -> pd.DataFrame:
        """Compare the rules of all gates on test data, each by plans of its own; see there.

        Returns:
            The table of `compare_plans`, with the name of the network in the column `chain`.
        """
        network = self.network
        prices, learned = network.prices, {}
        for name, head in self.heads.items():
            learned[name] = [head, *(gate.rule for gate in self.gates[name].values())]
        rules = learned | untrained_chain_rules(len(prices), network.val_bank.task)
        budgets = np.linspace(prices[0], sum(prices), BUDGETS)
        table = compare_plans(rules, network.val_bank, network.test_bank, prices, budgets)
        return table.assign(chain=" → ".join(network.test_bank.tiers))

    def diagnosis(self) -> Diagnosis | None:
        """Say whether learning helps at the device; None where answers are not right or wrong."""
        if not self.network.val_bank.task.measure.higher_is_better:
            return None
        banks = (self._from_device(bank) for bank in (self.network.bank, self.network.val_bank))
        return diagnose(*banks, self.heads, local_fraction=self.search.target_fraction)

    def _from_device(self, bank: Bank) -> Bank:
        return two_ends(bank, next(iter(bank.tiers)), self.behind, self.network.prices)

    def policy(self, report: Report) -> OffloadPolicy:
        """Return what is run: the best head with its threshold of the report, and those behind."""
        # What an artefact rebuilds: the paper's network from its configuration, another as it is.
        of_paper, name = self.trial.members[0].cut is None, self.trial.head.input
        return OffloadPolicy(
            self.cascade.model if of_paper else self.cascade,
            self.trial.ddnn if of_paper else None,
            self.heads[name],
            float(report.table.set_index("rule").loc[name, "score_threshold"]),
            self.splits.class_names,
            classes=self.splits.classes,
            reading=self.splits.reading,
            later=tuple(self.behind.values()),
        )
