"""Which labels an offload head should learn from: `python -m tune.honest_labels`.

Every label source × every head input, on the DDNN of every preset and seed. Each source on each
DDNN is a search of its own, whose test results are kept as soon as it is finished, so that a later
run adds to them.
"""

import json
import sys
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.config.presets import PRESETS
from keras_ddnn.evaluation.blend import Anchor
from keras_ddnn.evaluation.oracle_gap import oracle_scores
from keras_ddnn.evaluation.statistics import audc_replicates, gain_of_replicates, over_seeds
from keras_ddnn.files.atomic import replacing_file, write_json
from keras_ddnn.labels.sources import LABEL_SOURCES, STAGES, leakage_report
from keras_ddnn.rules.certificate import violation_rate
from keras_ddnn.rules.confidence import CONFIDENCE_RULES, RULES, Margin, untrained_rules
from keras_ddnn.rules.inputs import HEAD_INPUTS
from tune.space import SearchConfig
from tune.study import Finished, run_search_of, run_study, study_parser, train_shared

INPUTS = ("logits", "logits_plus", "logits_rich", "features")
RESAMPLES = 499


def main(arguments=None) -> int:
    """Run what is missing of the study and write its tables; see `run_study` for exit codes."""
    options = _parser().parse_args(arguments)
    return run_study(_run, options)


def _run(options) -> None:
    for seed in options.seeds:
        _run_seed(options, seed)
    tables = {name: summary(options.output) for name, summary in SUMMARIES.items()}
    for name, table in tables.items():
        with replacing_file(options.output / f"{name}.csv") as file:
            table.to_csv(file, index=False, float_format="%.5g")
    print(tables["table"].to_string(index=False))


def _run_seed(options, seed: int) -> None:
    """Train the heads of each label source on each DDNN of a seed and keep their test results."""
    todo = {}  # file → search
    for preset, labels in product(options.presets, options.labels):
        file = options.output / f"{preset}-seed{seed}" / f"{labels}.npz"
        if not file.exists():
            todo[file] = _search(options, preset, seed, labels)
    train_shared(options, [b for search in todo.values() for b in search.backbones()])
    for file, search in todo.items():
        name = f"{search.ddnn}-seed{seed}-{file.stem}"
        run_search_of(options, name, search, partial(_write_source, file))


def _search(options, preset: str, seed: int, labels: str) -> SearchConfig:
    return SearchConfig(
        dataset=options.dataset,
        ddnn=preset,
        epochs=options.epochs,
        stages=min(STAGES, options.epochs or STAGES),
        seed=(seed,),
        input=INPUTS,
        target=("distilled",),
        loss=("bce",),
        labels=(labels,),
    )


def _write_source(file: Path, finished: Finished) -> None:
    """Measure every head on test data, alone and anchored."""
    (weight,), (labels,) = finished.search.lambda_local, finished.search.labels
    backbone = finished.backbone(weight)
    val_bank, test_bank = backbone.val_bank, backbone.test_bank

    scores = {name: rule.score(test_bank.edge) for name, rule in untrained_rules().items()}
    scores["oracle"] = oracle_scores(test_bank)
    certified = {"margin": np.concatenate([Margin().score(val_bank.edge), scores["margin"]])}
    heads = {}
    for trial, head in finished.heads.items():
        name = f"{labels}/{trial.head.input}"
        val_scores, scores[name] = head.score(val_bank.edge), head.score(test_bank.edge)
        anchor = Anchor.fit(val_scores, val_bank)
        scores[f"{name}/anchored"] = anchor.correct(scores[name], test_bank.edge)
        if trial.head.input == HeadConfig().input:
            both = anchor.correct(val_scores, val_bank.edge), scores[f"{name}/anchored"]
            certified[f"{name}/anchored"] = np.concatenate(both)
        heads[name] = {"multiply_adds": head.multiply_adds, "anchor": anchor.as_json()}

    labels_bank = LABEL_SOURCES[labels].training_data(backbone).labels_bank
    leakage = leakage_report({labels: labels_bank}, val_bank).to_dict("records")
    local, cloud = (float(c.mean()) for c in (test_bank.local_correct, test_bank.cloud_correct))
    right = [
        np.concatenate([getattr(bank, name) for bank in (val_bank, test_bank)])
        for name in ("local_correct", "cloud_correct")
    ]
    certificates = {name: violation_rate(s, *right) for name, s in certified.items()}
    facts = {"local": local, "cloud": cloud, "heads": heads, "leakage": leakage}
    facts |= {"certificates": certificates}
    write_json(file.with_suffix(".json"), facts)
    replicates = {name: audc_replicates(s, test_bank, RESAMPLES) for name, s in scores.items()}
    with replacing_file(file) as new:
        np.savez_compressed(new, **{name: r.astype(np.float32) for name, r in replicates.items()})


def summarise(output: Path) -> pd.DataFrame:
    """Join what all seeds have left in a folder.

    Returns:
        One row a preset and rule: seeds, mean AUDC (%) and APGR over them, and, in points of AUDC,
        the gain over each confidence rule: its mean, the worst seed's, and two 95% intervals,
        "_low", "_high" of `over_seeds` and "_samples_low", "_samples_high" of `gain_of_replicates`.
    """
    seeds = {}  # (preset, rule) → [(facts, {rule or baseline: replicates}) a seed]
    for path in sorted(output.glob("*-seed*/*.npz")):
        preset = _preset(path)
        facts = json.loads(path.with_suffix(".json").read_text())
        with np.load(path) as saved:
            replicates = dict(saved)
        for rule in replicates:
            if "/" in rule or path.stem == "final_epoch":  # the others are the same in every file
                seeds.setdefault((preset, rule), []).append((facts, replicates))
    return pd.DataFrame(_row(*name, seeds[name]) for name in sorted(seeds, key=_place))


def _preset(path: Path) -> str:
    """Return the preset of a file that `_run_seed` has left."""
    return path.parent.name.rsplit("-seed", 1)[0]


def _place(name: tuple[str, str]):
    """Sort by preset, then untrained rules, then heads in the order of the dictionaries."""
    preset, rule = name
    labels, _, head = rule.partition("/")
    if not head:
        return preset, -1, -1, [*RULES, "oracle"].index(rule), ""
    head, _, anchored = head.partition("/")
    return preset, list(LABEL_SOURCES).index(labels), list(HEAD_INPUTS).index(head), 0, anchored


def _row(preset: str, rule: str, seeds: list) -> dict:
    audc = [replicates[rule][0] for _, replicates in seeds]
    apgr = [
        (value - facts["local"]) / (facts["cloud"] - facts["local"])
        for value, (facts, _) in zip(audc, seeds)
    ]
    row = {"preset": preset, "rule": rule, "seeds": len(seeds)}
    row |= {"audc": 100 * np.mean(audc), "apgr": np.mean(apgr)}
    for baseline in CONFIDENCE_RULES:
        gains = [100 * (replicates[rule] - replicates[baseline]) for _, replicates in seeds]
        whole = [gain[0] for gain in gains]
        row |= {baseline: np.mean(whole), f"{baseline}_worst": min(whole)}
        if len(seeds) > 1:
            over, drawn = over_seeds(whole), gain_of_replicates(gains)
            row |= {f"{baseline}_low": over.low, f"{baseline}_high": over.high}
            row |= {f"{baseline}_samples_low": drawn.low, f"{baseline}_samples_high": drawn.high}
    return row


def summarise_leakage(output: Path) -> pd.DataFrame:
    """Return the mean over seeds of every number of the leakage reports, a row a source."""
    rows = [
        {"preset": _preset(path), **row}
        for path in sorted(output.glob("*-seed*/*.json"))
        for row in json.loads(path.read_text())["leakage"]
        if row["source"] != "validation" or path.stem == "final_epoch"  # the same in every file
    ]
    by_source = pd.DataFrame(rows).groupby(["preset", "source"], sort=False)
    return by_source.mean(numeric_only=True).reset_index()


def summarise_certificates(output: Path) -> pd.DataFrame:
    """Return the mean over seeds of `violation_rate` on validation and test data, a row a rule."""
    rows = [
        {"preset": _preset(path), "rule": rule, **row}
        for path in sorted(output.glob("*-seed*/*.json"))
        for rule, row in json.loads(path.read_text())["certificates"].items()
        if "/" in rule or path.stem == "final_epoch"
    ]
    by_rule = pd.DataFrame(rows).groupby(["preset", "rule"], sort=False)
    return by_rule.mean().reset_index()


# What is written beside the results of all seeds -> how
SUMMARIES = {
    "table": summarise,
    "leakage": summarise_leakage,
    "certificates": summarise_certificates,
}


def _parser():
    parser = study_parser("tune.honest_labels", __doc__)
    add = parser.add_argument
    add("--presets", choices=PRESETS, nargs="+", default=["strong", "paper"])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    add("--labels", choices=LABEL_SOURCES, nargs="+", default=list(LABEL_SOURCES))
    return parser


if __name__ == "__main__":
    sys.exit(main())
