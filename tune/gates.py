"""The gates of head trials: a head each, learned from the last tier to the first."""

from collections.abc import Sequence

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.heads.fit import HeadRule, fit_head
from keras_ddnn.heads.stack import fit_heads
from keras_ddnn.labels.gates import GateOfNetwork, fit_gates
from keras_ddnn.labels.sources import TrainedNetwork
from keras_ddnn.rules.confidence import Gate
from tune.stored import StoredNetwork


def fit_chains(
    backbone: StoredNetwork, configs: Sequence[HeadConfig], target_fraction: float
) -> tuple[list[dict[str, Gate] | None], Exception | None]:
    """Learn a head at every gate of a network, for each of several configurations.

    The heads of the last gate see the same two ends and are trained together; those before it see
    what the gates behind them make of a sample, which differs from one configuration to the next.

    Args:
        backbone: K tiers; of two, the last gate is the device's.
        configs: One a trial.
        target_fraction: See `SearchConfig`.

    Returns:
        For each configuration name of a tier → its gate, the device's first, or None if a head
        failed; and the last error, if there was one.
    """
    names, prices = [*backbone.bank.tiers][:-1], backbone.prices
    budget = sum(price * (1 - target_fraction) ** place for place, price in enumerate(prices))
    watched = names[0] if len(configs) == 1 else None
    heads, last = _fit_stack(GateOfNetwork(backbone, names[-1], {}), configs, watched)
    chains = []
    for head, config in zip(heads, configs):

        def fit(gate: TrainedNetwork, head=head, config=config) -> HeadRule:
            return head if gate.tier == names[-1] else _fit_one(gate, config, watched)

        try:
            gates = head and fit_gates(fit, backbone, prices, budget)
        except Exception as error:  # one that fails must not cost the others
            gates, last = None, error
        chains.append(gates and dict(zip(names, gates)))
    return chains, last


def _fit_stack(
    gate: GateOfNetwork, configs: Sequence[HeadConfig], watched: str | None
) -> tuple[list[HeadRule | None], Exception | None]:
    """Return a head of each configuration, or None, and the last error if there was one."""
    if len(configs) == 1:
        return [_fit_one(gate, configs[0], watched)], None
    try:
        return fit_heads(gate, configs), None
    except Exception:  # one that fails must not cost the others
        heads, last = [], None
        for config in configs:
            try:
                heads.append(fit_head(gate, config))
            except Exception as error:
                heads.append(None)
                last = error
        return heads, last


def _fit_one(gate: GateOfNetwork, config: HeadConfig, watched: str | None) -> HeadRule:
    """Return the head of a gate; Tune is told how that of the watched tier comes on."""
    import keras
    from ray import tune

    report_epoch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: tune.report({"val_audc": logs["val_audc"]})
    )
    return fit_head(gate, config, callbacks=[report_epoch] if gate.tier == watched else [])
