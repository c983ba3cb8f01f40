"""The search space: which trials a search has, and what is refused before any of them runs."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_ddnn.config import as_json
from keras_ddnn.labels.sources import LABEL_SOURCES, STAGES
from tune.space import ALONE, SEARCH_PRESETS, SearchConfig
from tune.specs import DIMENSIONS

WIDE = SearchConfig(
    lambda_local=(0.3, 0.7, "random"),
    seed=(0, 1),
    local_fraction=(0.3, 0.5),
    input=("features", "logits"),
    depth=(1, 2),
    labels=("final_epoch", "augmented"),
    anchored=(False, True),
)
NARROW = SearchConfig(bottleneck=(None, 4), seed=(0, 1))


def test_a_grid_holds_every_combination_once():
    trials = WIDE.grid()
    assert len(trials) == len(set(trials)) == 3 * 2 * 2 * 2 * 2 * 2 * 2
    assert WIDE.sample() == trials


@pytest.mark.parametrize(
    ("dimensions", "expected"),
    [
        ({"input": ("logits",), "architecture": ("mlp", "conv")}, [("mlp", False)]),
        ({"input": ("logits",), "architecture": ("conv",)}, [("mlp", False)]),
        ({"input": ("image",), "architecture": ("mlp", "conv")}, [("mlp", False), ("conv", False)]),
        ({"input": ("features",), "oversample": (False, True)}, [("mlp", False)]),
        ({"input": ("logits",), "oversample": (False, True)}, [("mlp", False), ("mlp", True)]),
    ],
)
def test_a_choice_without_a_meaning_becomes_the_plain_one(dimensions, expected):
    heads = [trial.head for trial in SearchConfig(**dimensions).grid()]
    assert [(head.architecture, head.oversample) for head in heads] == expected


@pytest.mark.parametrize(("target", "trials"), [("hard", 4), ("benefit", 2), ("distilled", 1)])
def test_a_target_is_not_tried_again_for_what_it_does_not_look_at(target, trials):
    search = SearchConfig(
        target=(target,), cost=("true_class", "zero_one"), local_fraction=(0.3, 0.7)
    )
    assert len(search.grid()) == trials


def test_a_choice_given_twice_counts_once():
    search = SearchConfig(lambda_local=(0.5, 0.5), depth=(2, 1, 2))
    assert (search.lambda_local, search.depth) == ((0.5,), (2, 1))


def test_blanks_beside_commas_and_plus_signs_do_not_count():
    cut = SearchConfig(network="a:b", at=("one, two", "one,two", " three"))
    assert cut.at == ("one,two", "three")
    chain = SearchConfig(network="a:b + c:d@fast", lambda_local=ALONE)
    assert chain.network == ("a:b+c:d@fast",)


def test_there_is_one_backbone_for_each_weight_and_seed():
    backbones = WIDE.backbones()
    assert len(set(backbones)) == 6
    assert {(b.ddnn.lambda_local, b.ddnn.seed, b.fold) for b in backbones} == {
        (lambda_local, seed, None) for lambda_local in (0.3, 0.7, "random") for seed in (0, 1)
    }
    assert {trial.ddnn for trial in WIDE.grid()} == {backbone.ddnn for backbone in backbones}


def test_there_is_one_backbone_for_each_bottleneck_too():
    search = SearchConfig(bottleneck=(None, 2, 4), lambda_local=(0.3, 0.7), depth=(1, 2))
    assert [(b.ddnn.lambda_local, b.ddnn.bottleneck) for b in search.backbones()] == [
        (lambda_local, channels) for lambda_local in (0.3, 0.7) for channels in (None, 2, 4)
    ]
    assert len(search.grid()) == 2 * 3 * 2
    names = [backbone.name() for backbone in search.backbones()]
    assert names[:2] == ["lambda0.3-seed0", "lambda0.3-bottleneck2-seed0"]


def test_the_record_of_a_trial_from_before_there_were_bottlenecks_is_read():
    (trial,) = SearchConfig().grid()
    choices = trial.choices()
    assert choices.pop("bottleneck") is None
    assert SearchConfig().trial(choices) == trial


@pytest.mark.parametrize(
    ("labels", "folds"),
    [
        (("final_epoch", "augmented", "stage_averaged"), []),
        (("held_out",), [0]),
        (("cross_fitted",), [0, 1, 2]),
        (("held_out", "final_epoch", "cross_fitted"), [0, 1, 2]),
    ],
)
def test_the_folds_that_labels_ask_for_are_trained_once_for_each_backbone(labels, folds):
    search = SearchConfig(labels=labels, lambda_local=(0.3, 0.7), depth=(1, 2), epochs=5)
    deployed, trained = search.backbones()[:2], search.backbones()[2:]
    assert [backbone.fold for backbone in deployed] == [None, None]
    assert [backbone.fold for backbone in trained] == folds * 2
    assert trained == [backbone.of_fold(fold) for backbone in deployed for fold in folds]
    assert {backbone.ddnn.epochs for backbone in trained} <= {3}  # half of five, rounded up


def test_backbones_keep_the_stages_that_labels_ask_for_but_no_more_than_there_are():
    def stages(*labels, epochs):
        search = SearchConfig(labels=labels, epochs=epochs)
        return [backbone.ddnn.stages for backbone in search.backbones()]

    assert stages("final_epoch", "augmented", epochs=9) == [0]
    assert stages("final_epoch", "stage_averaged", epochs=9) == [STAGES]
    assert stages("stage_averaged", epochs=2) == [2]
    assert stages("stage_averaged", "cross_fitted", epochs=9) == [STAGES, 0, 0, 0]
    assert SearchConfig(stages=7, epochs=9).backbones()[0].ddnn.stages == 7


def test_every_backbone_has_a_name_of_its_own():
    backbones = replace(NARROW, labels=tuple(LABEL_SOURCES)).backbones()
    assert len({each.name() for each in backbones}) == len(backbones)


def test_epochs_replace_those_of_the_preset():
    assert SearchConfig(epochs=3).backbones()[0].ddnn.epochs == 3
    assert SearchConfig(ddnn="paper").backbones()[0].ddnn.epochs == 20


def test_weights_of_classes_reach_every_backbone_and_its_folds():
    search = SearchConfig(class_weight="balanced", labels=("cross_fitted",))
    assert {backbone.ddnn.class_weight for backbone in search.backbones()} == {"balanced"}
    assert SearchConfig(class_weight={1: 2}) == SearchConfig(class_weight=((1, 2.0),))


def random_search(**fields):
    return SearchConfig(
        searcher="random", input=("features", "logits"), depth=(1, 2, 3, 4), **fields
    )


def test_the_random_searcher_draws_distinct_trials_of_the_grid():
    search = random_search(trials=5)
    trials = search.sample()
    assert len(set(trials)) == len(trials) == 5
    assert set(trials) < set(search.grid())


def test_the_random_searcher_draws_the_same_trials_for_the_same_seed():
    assert random_search(trials=5).sample() == random_search(trials=5).sample()
    drawn = {
        frozenset((trial.head.input, trial.head.depth) for trial in search.sample())
        for search in (random_search(trials=4, seed=(seed,)) for seed in range(5))
    }
    assert len(drawn) > 1


def test_the_random_searcher_runs_the_whole_grid_when_asked_for_more():
    search = random_search(trials=1000)
    assert search.sample() == search.grid()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lambda_local": (1.5,)}, r"lambda_local must lie in \[0, 1\]; received 1.5"),
        ({"lambda_local": (float("nan"),)}, "lambda_local .* received nan"),
        ({"lambda_local": ("often",)}, "lambda_local .* received 'often'"),
        ({"local_fraction": (-0.1,)}, r"local_fraction must lie in \[0, 1\]; received -0.1"),
        ({"target_fraction": 2.0}, "target_fraction .* received 2.0"),
        ({"depth": (9,)}, "unknown head depth 9; known: 1, 2, 3, 4"),
        ({"input": ("sound",)}, "unknown head input 'sound'; known: features, image, logits"),
        ({"architecture": ("tree",)}, "unknown head architecture 'tree'; known: mlp"),
        ({"labels": ("hearsay",)}, "unknown label source 'hearsay'; known: final_epoch, augmented"),
        ({"loss": ("zero",)}, "unknown head loss 'zero'; known: bce"),
        ({"bottleneck": (None, 0)}, "bottleneck must be a positive integer; received 0"),
        ({"ddnn": "huge"}, "unknown preset 'huge'; known: paper"),
        ({"searcher": "guess"}, "unknown searcher 'guess'; known: grid, random, optuna"),
        ({"scheduler": "late"}, "unknown scheduler 'late'; known: fifo, asha"),
        ({"epochs": 0}, "epochs must be a positive integer; received 0"),
        ({"seed": (-1,)}, "seed must be an integer .* received -1"),
        ({"data_seed": 2**32}, "data_seed must be an integer .* received 4294967296"),
        ({"input": ()}, "input needs at least one choice; received none"),
        ({"depth": (1, 2), "trials": 3}, "a grid runs all its 2 combinations; received trials=3"),
        ({"searcher": "random"}, "the random searcher needs a number of trials"),
        ({"searcher": "optuna"}, "the optuna searcher needs a number of trials"),
        ({"searcher": "random", "trials": 0}, "trials must be a positive integer; received 0"),
    ],
)
def test_a_bad_search_is_refused_by_name_and_value(fields, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**fields)


@pytest.mark.parametrize("wrong", [{"lambda_local": (0.5, 1.5)}, {"depth": (1, 9)}])
def test_one_bad_choice_among_good_ones_is_refused(wrong):
    with pytest.raises(ValueError, match=r"1\.5|9"):
        SearchConfig(**wrong)


@pytest.mark.parametrize("search", [WIDE, NARROW, *SEARCH_PRESETS.values()])
def test_the_choices_of_a_trial_make_it_again(search):
    for trial in search.grid():
        assert set(trial.choices()) == set(DIMENSIONS)
        assert search.trial(json.loads(json.dumps(trial.choices()))) == trial


@pytest.mark.parametrize(
    "search", [WIDE, NARROW, random_search(trials=5), *SEARCH_PRESETS.values()]
)
def test_a_search_survives_json(search):
    assert SearchConfig(**json.loads(json.dumps(as_json(search)))) == search


@pytest.mark.parametrize("name", SEARCH_PRESETS)
def test_a_preset_has_enough_trials_to_choose_from(name):
    assert len(SEARCH_PRESETS[name].grid()) >= 24


def test_heads_that_read_the_same_batches_are_trained_in_stacks_of_even_size():
    search = SearchConfig(
        lambda_local=(0.3, 0.7),
        input=("features", "logits"),
        architecture=("mlp", "conv"),
        local_fraction=tuple(np.linspace(0.1, 0.9, 9)),
        loss=("bce", "focal"),
    )
    stacks = search.stacks()
    trials = [trial for stack in stacks for trial in stack]
    assert sorted(map(repr, trials)) == sorted(map(repr, search.grid()))
    # A λ and an input have 18 heads; a convolution reads maps only, and is trained alone.
    sizes = {"mlp": [], "conv": []}
    for stack in stacks:
        assert len({(trial.ddnn, trial.head.stack_key()) for trial in stack}) == 1
        sizes[stack[0].head.architecture].append(len(stack))
    assert sizes == {"mlp": [9] * 8, "conv": [1] * 36}


def test_a_scheduler_that_stops_weak_heads_has_them_trained_one_by_one():
    search = SearchConfig(depth=(1, 2), loss=("bce", "focal"), scheduler="asha")
    assert [len(stack) for stack in search.stacks()] == [1, 1, 1, 1]
