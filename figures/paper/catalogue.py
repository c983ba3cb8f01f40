"""Which figure of the paper is drawn from which experiment."""

import json

import numpy as np

from figures.paper import architecture, conv, curves, disagreement, gains, oracle, weights
from figures.paper.results import read
from figures.style import new_figure

TITLES = {
    "ddnn": "Figure 1, the DDNN",
    "conv_head": "Figure 5, the shallow convolution head",
    "logits_head": "Figure 9, the head on logits+",
}


def _architecture(name):
    def draw(folder):
        layers = json.loads((folder / "architectures.json").read_text())[name]
        return architecture.draw(layers, TITLES[name])

    return draw


def _decisions(*shown):
    return lambda folder: curves.draw_decisions(
        read(folder, "thresholds", "rules"), read(folder, "thresholds", "networks"), shown
    )


def _conv_curves(folder):
    table = read(folder, "conv", "curves")
    figure = new_figure()
    heads = sorted(name for name in table if name.startswith("conv"))
    curves.draw_curves(figure.subplots(), table, ["oracle", *heads, "entropy", "random"])
    return figure


def _logits(name):
    def draw(folder):
        table = read(folder, "logits", "curves")
        features = read(folder, "thresholds", "curves")[["seed", "local_fraction", "features"]]
        table = table.merge(features, on=["seed", "local_fraction"])
        shown = ["oracle", name, "entropy", "features", "random"]
        history = read(folder, "logits", "history")
        return curves.draw_curves_and_epochs(table, history, shown, [name])

    return draw


def _examples(folder):
    (first, *_) = sorted((folder / "logits").glob("seed*/examples.npz"))
    with np.load(first) as saved:
        return disagreement.draw_examples(dict(saved))


def _future_work(folder):
    losses = read(folder, "losses", "rules")
    costs = read(folder, "costs", "rules")
    stages = read(folder, "stages", "rules")
    dropout = read(folder, "mc_dropout", "rules")

    def learned(table, baseline):
        names = dict.fromkeys(table.loc[table["multiply_adds"] > 0, "rule"])
        return [name for name in sorted(names) if name != baseline]

    return gains.draw(
        {
            "loss": (losses, "bce", learned(losses, "bce")),
            "cost": (costs, "cost_true_class", learned(costs, "cost_true_class")),
            "labels": (stages, "final_epoch", learned(stages, "final_epoch")),
            "Monte-Carlo dropout": (
                dropout,
                "entropy",
                [name for name in learned(dropout, "entropy") if name.startswith("mc_")],
            ),
        }
    )


# Picture -> (files or folders that must be there, folder of the results -> figure)
PAPER_FIGURES = {
    "figure_01_ddnn.png": (("architectures.json",), _architecture("ddnn")),
    "figure_02_thresholds.png": (
        ("thresholds",),
        _decisions("oracle", "entropy", "features", "random"),
    ),
    "figure_03_features_or_image.png": (
        ("thresholds",),
        _decisions("oracle", "features", "image", "random"),
    ),
    "figure_04_weights.png": (
        ("weights",),
        lambda folder: weights.draw(
            read(folder, "weights", "rules"), read(folder, "weights", "networks")
        ),
    ),
    "figure_05_conv_head.png": (("architectures.json",), _architecture("conv_head")),
    "figure_06_conv_epochs.png": (
        ("conv",),
        lambda folder: conv.draw_epochs_by_depth(read(folder, "conv", "history")),
    ),
    "figure_07_conv_depth.png": (
        ("conv",),
        lambda folder: conv.draw_depths(
            read(folder, "conv", "history"), read(folder, "conv", "rules")
        ),
    ),
    "figure_08_conv_curves.png": (("conv",), _conv_curves),
    "figure_09_logits_head.png": (("architectures.json",), _architecture("logits_head")),
    "figure_10_logits.png": (("logits", "thresholds"), _logits("logits")),
    "figure_11_logits_plus.png": (("logits", "thresholds"), _logits("logits_plus")),
    "figure_12_oracle.png": (
        ("thresholds",),
        lambda folder: oracle.draw(read(folder, "thresholds", "networks")),
    ),
    "section_742_disagreement.png": (
        ("logits",),
        lambda folder: disagreement.draw(read(folder, "logits", "cells")),
    ),
    "section_742_by_class.png": (
        ("logits",),
        lambda folder: disagreement.draw_by_class(read(folder, "logits", "cells")),
    ),
    "section_742_examples.png": (("logits",), _examples),
    "future_work.png": (("losses", "costs", "stages", "mc_dropout"), _future_work),
}
