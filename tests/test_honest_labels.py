"""The study of label sources: what its tables say of what the seeds have left."""

import json

import numpy as np
import pytest

from figures import honest_labels as figure
from tune import honest_labels as study
from tune.honest_labels import main, summarise, summarise_certificates, summarise_leakage

# AUDC of the test set and of two resamples of it, by seed.
MARGIN = {0: [0.80, 0.79, 0.81], 1: [0.82, 0.81, 0.83]}
HEAD = {0: [0.81, 0.80, 0.82], 1: [0.85, 0.84, 0.86]}


@pytest.fixture
def results(tmp_path):
    for seed in (0, 1):
        folder = tmp_path / f"strong-seed{seed}"
        folder.mkdir()
        rules = dict.fromkeys(("entropy", "max_prob", "margin"), MARGIN[seed])
        np.savez(folder / "final_epoch.npz", **rules, **{"final_epoch/logits": HEAD[seed]})
        np.savez(folder / "augmented.npz", **rules, **{"augmented/logits": MARGIN[seed]})
        for source in ("final_epoch", "augmented"):
            leakage = [{"source": source, "recovery": 0.1 + seed / 10, "verdict": "honest"}]
            facts = {"local": 0.7, "cloud": 0.9, "leakage": leakage}
            facts["certificates"] = {f"{source}/logits": {"violation_share": 0.06 + seed / 50}}
            (folder / f"{source}.json").write_text(json.dumps(facts))
    return tmp_path


def test_gains_are_paired_by_seed_and_in_points(results):
    table = summarise(results).set_index("rule")
    heads = ["final_epoch/logits", "augmented/logits"]
    assert list(table.index) == ["entropy", "max_prob", "margin", *heads]
    head = table.loc["final_epoch/logits"]
    assert (head["preset"], head["seeds"]) == ("strong", 2)
    assert head["audc"] == pytest.approx(83.0)
    assert head["apgr"] == pytest.approx((0.55 + 0.75) / 2)
    assert head["margin"] == pytest.approx((1.0 + 3.0) / 2)
    assert head["margin_worst"] == pytest.approx(1.0)
    # t of one degree of freedom is 12.7, the standard error of 1 and 3 is 1.
    assert head["margin_low"] == pytest.approx(2.0 - 12.706, abs=1e-3)
    assert 1.0 <= head["margin_samples_low"] <= head["margin_samples_high"] <= 3.0
    assert table.loc["augmented/logits", ["margin", "margin_low", "margin_high"]].eq(0.0).all()


def test_leakage_is_the_mean_over_seeds(results):
    leakage = summarise_leakage(results).set_index("source")
    assert leakage.loc["final_epoch", "recovery"] == pytest.approx(0.15)


def test_certificates_are_the_mean_over_seeds(results):
    certificates = summarise_certificates(results).set_index("rule")
    assert certificates.loc["final_epoch/logits", "violation_share"] == pytest.approx(0.07)


def test_the_figure_shows_a_point_with_its_interval_for_every_source_and_input(results):
    (axes,) = figure.draw(summarise(results)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["final_epoch", "augmented"]
    (points,) = axes.containers
    np.testing.assert_allclose(points.lines[0].get_xdata(), [2.0, 0.0], atol=1e-6)
    assert axes.get_xlabel() == "gain over margin (points of AUDC)"


def test_results_are_summarised_without_training_what_is_there(results, capsys):
    arguments = ["--output", str(results), "--work", str(results / "none"), "--presets", "strong"]
    labels = ["--seeds", "0", "1", "--labels", "final_epoch", "augmented"]
    assert main(arguments + labels) == 0
    assert "final_epoch/logits" in capsys.readouterr().out
    assert {"table.csv", "leakage.csv", "certificates.csv"} <= {
        path.name for path in results.iterdir()
    }
    assert not (results / "none").exists()


def test_all_networks_of_a_seed_are_trained_in_one_queue(results, monkeypatch):
    queues, searches = [], []
    monkeypatch.setattr(study, "train_shared", lambda _, wanted: queues.append(wanted))
    monkeypatch.setattr(study, "run_search_of", lambda _, name, *rest: searches.append(name))
    arguments = ["--output", str(results), "--presets", "strong", "--seeds", "0", "2"]
    assert study.main([*arguments, "--labels", "final_epoch", "cross_fitted"]) == 0
    # Of seed 0 the final epoch is there already.
    assert searches == [
        "strong-seed0-cross_fitted",
        "strong-seed2-final_epoch",
        "strong-seed2-cross_fitted",
    ]
    assert [len(set(queue)) for queue in queues] == [1 + 3, 1 + 3]
