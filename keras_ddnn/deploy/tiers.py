"""A chain of K tiers as K - 1 artefacts of two tiers, one a hop, in sibling folders 0, 1, …"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from keras_ddnn.data.bank import CLOUD, LOCAL, Bank
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.deploy.artifact import ARTIFACT_RULES, fit_temperatures, load_policy, save_policy
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.files.atomic import replacing_folder
from keras_ddnn.files.checks import expect
from keras_ddnn.files.manifest import hops_of, read_manifest, require_next
from keras_ddnn.files.signature import Key
from keras_ddnn.networks.cascade import as_cascade
from keras_ddnn.rules.confidence import Gate, name_of


def save_tiers(
    policy: OffloadPolicy,
    folder: str | Path,
    *,
    val_bank: Bank | None = None,
    dataset: str | None = None,
    graphs: bool = True,
    sign: Key | None = None,
) -> None:
    """Write a policy of K tiers as an artefact a hop: all of them or none; older ones are replaced.

    In the artefact of hop k, in the folder `k`, the device is tier k, with its gate, and the cloud
    is what tier k + 1 answers itself. Tier 0 runs as a device, the last tier as a cloud, and each
    between them as both: `python -m keras_ddnn.serve.cloud FOLDER/0 --upstream URL`. A policy of
    two tiers is kept in the folder `0`, as `save_policy` keeps it.

    Args:
        policy: What to save; see `OffloadPolicy.later` for the gates behind the first.
        folder: Where the folders `0`, `1`, … shall be.
        val_bank: Validation samples with the outputs of all tiers, as `capture` makes it. Hop k is
            given those samples alone that the gates before it send on, and of each the answer of
            the tier where it ends. See `save_policy` for what comes of them.
        dataset: What the data are called that these samples come from.
        graphs: Whether to write graphs, without which nothing can be served.
        sign: Signs each of the artefacts; see `save_policy`.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: As `save_policy` does; or if the bank is of other tiers, or the gates let none
            of its samples through to a tier.
    """
    gates, cascade = policy.gates, as_cascade(policy.model)
    for gate in gates:
        name_of(gate.rule, ARTIFACT_RULES, "an artefact keeps a rule that is")
    banks = [(None, None)] * len(gates) if val_bank is None else _banks(val_bank, gates)
    with replacing_folder(folder) as new:
        for place, (gate, (bank, temperatures)) in enumerate(zip(gates, banks, strict=True)):
            hop = replace(
                policy,
                model=cascade.hop(place),
                rule=gate.rule,
                score_threshold=gate.score_threshold,
                later=(),
                reading=None if place else policy.reading,
            )
            given = {"val_bank": bank, "temperatures": temperatures, "dataset": dataset}
            save_policy(hop, new / str(place), **given, graphs=graphs, sign=sign)


def load_tiers(folder: str | Path, verify_key: Key | None = None) -> tuple[OffloadPolicy, ...]:
    """Read what `save_tiers` has written, after verifying every file.

    Args:
        folder: Where it was saved.
        verify_key: The public key that each artefact must be signed by; see `load_policy`.

    Returns:
        A policy of two tiers for each hop, the device's first: `policies[k].decide` says what tier
        k sends on.

    Raises:
        OSError: If the file of the key cannot be read.
        ValueError: As `load_policy` does; or if an artefact does not read what the one before it
            sends.
    """
    folders = hops_of(folder)
    policies = tuple(load_policy(hop, verify_key) for hop in folders)
    for pair in pairwise(folders):
        require_next(*map(read_manifest, pair))
    return policies


def _banks(bank: Bank, gates: Sequence[Gate]) -> list[tuple[Bank, dict[str, float]]]:
    """Return for each hop what its two ends said of the samples that reach it.

    Beside it are the temperatures of the hop's own two tiers: behind its cloud others may answer.
    """
    names = [*bank.tiers]
    expect(
        len(names) == len(gates) + 1, "val_bank", f"outputs of {len(gates) + 1} tiers", f"{names}"
    )
    sent = [gate.sends_on(bank.at(name)) for gate, name in zip(gates, names)]
    arrived, banks = np.ones(len(bank), bool), []
    for place, name in enumerate(names[:-1]):
        expect(
            arrived.any(),
            f"val_bank at {name}",
            "samples that the gates before it send on; lower their thresholds, or leave out the "
            "tiers that none reaches",
            f"none of {len(bank):,}",
        )
        device, behind = bank.gate(name, sent[place + 1 :]).tiers.values()
        inputs = bank.tiers[names[place - 1]].features if place else device.inputs
        # A device knows nothing of the tiers before it.
        device = replace(device, inputs=inputs, earlier=())
        hop = replace(bank, tiers={LOCAL: device, CLOUD: TierOutputs(behind.outputs)})
        rows = np.flatnonzero(arrived)
        own = {name: TierOutputs(bank.tiers[name].outputs) for name in names[place : place + 2]}
        banks.append((hop.rows(rows), fit_temperatures(replace(bank, tiers=own).rows(rows))))
        arrived &= sent[place]
    return banks
