"""What a manifest says of an offload rule, by the rule's name."""

from keras_ddnn.files.fields.ranges import COUNT, FRACTION, MAX_WIDTH, POSITIVE, SCALE, SEED, array
from keras_ddnn.files.shapes import boolean, integer, nullable, one_of, record, sequence, text

# Of `rules.confidence.RULES`, which a device does not import.
RULE_NAMES = ("random", "entropy", "max_prob", "margin", "width", "second_look")

HEAD_CONFIG = record(
    {
        "input": text,
        "architecture": text,
        "depth": integer(1, 4),
        "target": text,
        "loss": text,
        "cost": text,
        "labels": text,
        "anchored": boolean,
        "local_fraction": FRACTION,
        "oversample": boolean,
        "dropout": FRACTION,
        "epochs": COUNT,
        "batch_size": COUNT,
        "learning_rate": POSITIVE,
        "patience": COUNT,
        "precision": text,
        "seed": SEED,
    }
)
ANCHOR = record({"rule": one_of(*RULE_NAMES), "weight": FRACTION, "scales": sequence(SCALE, 2, 2)})
HEAD = record({"config": HEAD_CONFIG, "input_shape": array(1, 2, 3, 4), "anchor": nullable(ANCHOR)})
LINEAR = {"weights": sequence(SCALE, 1, MAX_WIDTH), "bias": SCALE}
RULES = {  # what `OffloadRule.save` returns, by the rule's name
    **dict.fromkeys(RULE_NAMES, record({})),
    "random": record({"seed": SEED}, optional=("seed",)),  # which older artefacts do not name
    "head": HEAD,
    "logit_head": record({"input": text, "target": text, "anchor": nullable(ANCHOR)} | LINEAR),
    "mc_dropout": record({"passes": integer(1, 10_000), "measure": text, "seed": SEED}),
}
