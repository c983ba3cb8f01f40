"""The experiments of the paper: what they measure of toy banks, and the figures drawn of it."""

import json
import re
import shutil
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from conftest import outcomes, random_outcomes

from figures.__main__ import main as draw_figures
from figures.paper.catalogue import PAPER_FIGURES
from figures.paper.claims import CLAIMS, say
from figures.paper.curves import draw_decisions
from figures.paper.results import gains, read, summarise
from figures.paper.table import cells, fill
from keras_ddnn.rules.confidence import Entropy, OffloadRule, Random
from tune import paper
from tune.experiments import EXPERIMENTS, FULL, QUICK
from tune.measures import EPOCHS, describe_decisions, describe_networks
from tune.study import Finished

HISTORY = {name: [0.5 + 0.01 * n for n in range(EPOCHS)] for name in ("accuracy", "val_accuracy")}


class ToyHead(OffloadRule):
    """Ranks at random, as if it had been trained."""

    multiply_adds = 7

    def __init__(self, seed):
        self.rule = Random(seed)
        self.history = HISTORY | {"loss": [0.1] * EPOCHS}

    def score(self, edge):
        return self.rule.score(edge) - 0.5


@dataclass
class ToyBackbone:
    ddnn: object
    bank: object = field(default_factory=lambda: random_outcomes(60))
    val_bank: object = field(default_factory=lambda: random_outcomes(40))
    test_bank: object = field(default_factory=lambda: random_outcomes(80))

    def co_trained_head(self, config):
        assert config.labels == "final_epoch"
        return ToyHead(9)

    def model(self):
        return None


class ToyDropout(Entropy):
    multiply_adds = 70

    def __init__(self, model, passes, measure):
        pass


def finished(name, toy_splits, seed, scale=QUICK):
    search = EXPERIMENTS[name].search(scale, "toy", None, seed)
    heads = {trial: ToyHead(number) for number, trial in enumerate(search.grid())}
    toy_splits = replace(toy_splits, class_names=("a", "b"))  # which the toy banks have
    return Finished(
        search, toy_splits, heads, lambda weight: ToyBackbone(search.backbone(weight, seed))
    )


@pytest.fixture(scope="module")
def results(toy_splits, tmp_path_factory):
    """The folder with what two seeds of every experiment leave, which no test may change."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_ddnn.heads.mc_dropout.MCDropout", ToyDropout)
        for name, seed in product(EXPERIMENTS, (0, 1)):
            folder = results / name / f"seed{seed}"
            folder.mkdir(parents=True)
            measured = EXPERIMENTS[name].measure(finished(name, toy_splits, seed))
            for stem, content in measured.items():
                paper._write(folder / stem, content)
    (results / "architectures.json").write_text(json.dumps(paper.architectures()))
    return results


@pytest.fixture
def copy(results, tmp_path):
    return shutil.copytree(results, tmp_path / "copy")


# --- what is measured ----------------------------------------------------------------------------


def test_the_oracle_and_the_border_of_a_bank_are_counted(four_cases):
    """Of the four cases the oracle keeps one, where only the local network is right."""
    (row,) = describe_networks({"test": four_cases}).to_dict("records")
    assert (row["split"], row["local_fraction"]) == ("test", 0.54)
    assert row["oracle_local_fraction"] == 0.25
    assert row["oracle_accuracy"] == 0.75
    assert row["border"] == 0.0


def test_decisions_of_a_head_are_followed_to_the_labels_it_has_learned(four_cases):
    class KeepsTheFirstTwo:
        def score(self, edge):
            return np.array([-1.0, -1.0, 1.0, 1.0])

    # B_k is 0.7, -0.5, 0.1, -0.3: the median is -0.1, so that of the two kept one is easy.
    banks = {"train": four_cases, "test": four_cases}
    for row in describe_decisions(KeepsTheFirstTwo(), banks, 0.5).to_dict("records"):
        assert row["kept"] == 0.5
        assert row["kept_easy"] == row["kept_easy_by_own_quantile"] == 0.5
        assert row["accuracy"] == 0.5  # of the four, local is right on the second, cloud the third
    # The oracle sends all but the second, and the head all but the first two.
    assert row["decision_accuracy"] == 0.75


def test_easy_on_other_data_is_told_by_the_threshold_of_training_data_and_by_their_own():
    class KeepsAll:
        def score(self, edge):
            return -np.ones(len(edge))

    train, test = outcomes([True] * 4, [True] * 3 + [False]), outcomes([False] * 4, [True] * 4)
    rows = describe_decisions(KeepsAll(), {"train": train, "test": test}, 0.5).set_index("split")
    assert rows.loc["test", "kept_easy"] == 0.0  # B_k is 0.8 everywhere, above any of training
    assert rows.loc["train", "kept_easy"] == 0.25


def test_every_head_of_every_experiment_is_measured_beside_the_baselines(results, toy_splits):
    for name in EXPERIMENTS:
        rules = read(results, name, "rules")
        assert {"random", "entropy", "max_prob", "margin", "oracle"} < set(rules["rule"])
        learned = rules[(rules["multiply_adds"] == 7) & (rules["seed"] == 0)]
        heads = finished(name, toy_splits, 0).heads
        assert len(learned) == len(heads) + (name == "stages")  # and the co-trained head


def test_the_disagreements_of_logits_plus_are_all_there(results):
    cells = read(results, "logits", "cells")
    every = cells[(cells["class"] == "all") & (cells["seed"] == 0)]
    assert every["count"].sum() == 80
    with np.load(results / "logits" / "seed0" / "examples.npz") as examples:
        assert all(images.shape[1:] == (16, 16, 3) for images in examples.values())


def test_in_full_every_weight_has_seven_seeds_and_other_experiments_five():
    sweep = EXPERIMENTS["weights"]
    assert len(sweep.seeds(FULL)) == 7
    assert len(sweep.search(FULL, "toy", None, 6).backbones()) == 10  # 0.1 to 0.9, and random
    assert all(len(e.seeds(FULL)) == 5 for e in EXPERIMENTS.values() if e is not sweep)


def test_experiments_on_heads_share_their_backbone():
    names = EXPERIMENTS.keys() - {"mc_dropout", "weights"}
    searches = [EXPERIMENTS[name].search(FULL, "toy", None, 3) for name in names]
    assert len({backbone for search in searches for backbone in search.backbones()}) == 1


# --- running -------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """The work that the command would start."""
    work = []
    monkeypatch.setattr(paper, "train_shared", lambda options, wanted: None)
    monkeypatch.setattr(paper, "_run_experiment", lambda options, name, *_: work.append(name))
    return work


def keep(folder, name, seed, **fields):
    search = EXPERIMENTS[name].search(QUICK, "cifar10", None, seed)
    folder = folder / name / f"seed{seed}"
    folder.mkdir(parents=True)
    (folder / "search.json").write_text(json.dumps(paper.as_json(search) | fields))


def test_only_what_is_missing_is_run(started, tmp_path):
    keep(tmp_path, "conv", 0)
    arguments = ["--quick", "--output", str(tmp_path), "--experiments", "conv", "logits"]
    assert paper.main(arguments) == 0
    assert started == ["logits"]


def test_results_of_other_options_are_not_mixed_with_these(started, tmp_path, capsys):
    keep(tmp_path, "conv", 0, ddnn="strong")
    assert paper.main(["--quick", "--output", str(tmp_path)]) == 2
    assert "holds another experiment than the one asked for" in capsys.readouterr().err
    assert started == []


# --- joined over seeds ---------------------------------------------------------------------------


def test_a_summary_has_the_mean_over_seeds_and_a_t_interval():
    table = pd.DataFrame({"seed": [0, 1], "rule": ["a", "a"], "audc": [0.7, 0.9]})
    (row,) = summarise(table, ["rule"], ["audc"]).to_dict("records")
    assert row["audc"] == pytest.approx(0.8)
    assert row["audc_high"] == pytest.approx(0.8 + 12.706 * 0.1, abs=1e-3)
    (alone,) = summarise(table[:1], ["rule"], ["audc"]).to_dict("records")
    assert alone["audc_low"] == alone["audc_high"] == 0.7


def test_gains_are_paired_by_seed_and_in_points_of_the_baseline():
    table = pd.DataFrame(
        {"seed": [0, 0, 1, 1], "rule": ["bce", "focal"] * 2, "audc": [0.7, 0.71, 0.9, 0.91]}
    )
    gained = gains(table, "bce").set_index("rule")
    assert gained.loc["focal", ["gain", "gain_low", "gain_high"]].to_list() == pytest.approx(
        [1] * 3
    )
    assert gained.loc["bce", "gain"] == 0.0


# --- figures -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_command_draws_every_figure_of_the_paper(copy, capsys):
    assert draw_figures(["--results", str(copy)]) == 0
    drawn = {line.rpartition("/")[2] for line in capsys.readouterr().out.split()}
    assert drawn == {*PAPER_FIGURES, "claims.json"}
    assert set(json.loads((copy / "claims.json").read_text())) == set(CLAIMS)
    for name in PAPER_FIGURES:
        assert matplotlib.image.imread(copy / name).std() > 0.01, f"{name} is blank"


def test_lines_of_decisions_end_at_the_accuracies_of_the_networks(results):
    (axes,) = PAPER_FIGURES["figure_02_thresholds.png"][1](results).axes
    networks = read(results, "thresholds", "networks").query("split == 'test'")
    for line in axes.containers:
        x, y = line.lines[0].get_data()
        assert (x[0], x[-1]) == (0, 100)
        assert y[0] == pytest.approx(100 * networks["cloud_accuracy"].mean())
        assert y[-1] == pytest.approx(100 * networks["local_accuracy"].mean())


def test_a_head_that_sends_everything_whatever_its_threshold_is_counted_and_not_averaged():
    rules = pd.DataFrame(
        {
            "rule": "features",
            "seed": [0, 1],
            "local_fraction": 0.4,
            "realised_local_fraction": [0.0, 0.4],
            "accuracy": [0.9, 0.7],
        }
    )
    networks = pd.DataFrame(
        {"split": "test", "seed": [0, 1], "cloud_accuracy": 0.9, "local_accuracy": 0.5}
    )
    (axes,) = draw_decisions(rules, networks, ["features"]).axes
    x, y = axes.containers[0].lines[0].get_data()
    assert (x.tolist(), y.tolist()) == ([0, 40, 100], [90, 70, 50])
    assert axes.get_title() == "a head an L0; 2 seeds, 95% intervals; dead heads left out: 1"


def test_missing_experiments_leave_the_other_figures(copy, capsys):
    (copy / "architectures.json").unlink()
    for name in ("thresholds", "conv", "weights", "stages"):
        shutil.rmtree(copy / name)
    assert draw_figures(["--results", str(copy)]) == 0
    drawn = {line.rpartition("/")[2] for line in capsys.readouterr().out.split()}
    figures = {f"section_742_{name}.png" for name in ("disagreement", "by_class", "examples")}
    assert drawn == figures | {"claims.json"}


def test_quick_experiments_share_their_backbones():
    searches = {name: row.search(QUICK, "cifar10", None, 0) for name, row in EXPERIMENTS.items()}
    backbones = {name: set(search.backbones()) for name, search in searches.items()}
    plain = backbones.pop("thresholds")
    assert plain < backbones.pop("weights")
    assert not plain & backbones.pop("mc_dropout")  # has a network of its own
    assert all(others == plain for others in backbones.values())


# --- the table of claims -------------------------------------------------------------------------

TABLE = """\
| claim | where | the paper | ours | agrees | why |
|---|---|---|---|---|---|
| gap | Figure 2 | 15 points | ? | yes | pooled |

| word | gap |
"""


def test_what_the_results_say_is_laid_into_its_column():
    filled = fill(TABLE, {"gap": "14.0 points (1 seed)"})
    assert filled == TABLE.replace("?", "14.0 points (1 seed)")


def test_a_claim_without_a_row_is_named():
    with pytest.raises(ValueError, match=r"no row of: noise$"):
        fill(TABLE, {"gap": "14", "noise": "1.8%"})


def test_one_command_fills_in_the_table(results, tmp_path, capsys):
    shutil.copytree(results / "weights", tmp_path / "weights")
    table = tmp_path / "paper.md"
    claims = ["accuracy over λ", "cloud accuracy over λ", "local accuracy over λ", "λ at random"]
    table.write_text("\n".join(f"| {claim} | a | b | ? | c | d |" for claim in claims))
    arguments = ["--results", str(tmp_path), "--table", str(table)]
    assert draw_figures(arguments) == 0
    assert "?" not in table.read_text()
    table.write_text(TABLE)
    assert draw_figures(arguments) == 2
    assert f"no row of: {', '.join(claims)}" in capsys.readouterr().err


def test_the_table_of_the_repository_is_whole_and_says_what_its_results_say():
    root = Path(__file__).parent.parent
    text = (root / "docs" / "paper.md").read_text()
    rows = {row[0]: row for row in map(cells, text.split("\n")) if row}
    assert set(CLAIMS) <= set(rows)
    assert all(all(row) for row in rows.values()), "there is an empty cell"
    assert text == fill(text, say(root / "results" / "paper"))
    for link in re.findall(r"\]\((.+?)\)", text):
        assert (root / "docs" / link).exists(), f"{link} leads nowhere"
