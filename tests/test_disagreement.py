"""Where a rule and the oracle part: tables and examples counted by hand."""

import numpy as np
import pytest
from conftest import bank_of, random_outcomes

from keras_ddnn.evaluation.curves import decision_accuracy
from keras_ddnn.evaluation.oracle_gap import CASES, DECISIONS, MISTAKES, disagreement, examples

COLUMNS = [
    *("class", "case", "decision", "count", "share", "agreeing"),
    *("local_entropy", "local_margin", "p_local_true", "p_cloud_true", "benefit"),
]


def cell(table, name, case, decision):
    found = (table["class"] == name) & (table["case"] == case) & (table["decision"] == decision)
    (row,) = table[found].to_dict("records")
    return row


@pytest.fixture
def eight():
    """Eight samples of three classes; class 2 has none.

    | sample | y | p_local[y] | p_cloud[y] | who is right | B_k  | the oracle |
    |--------|---|------------|------------|--------------|------|------------|
    | 0      | 0 | 0.6        | 0.9        | both         | 0.3  | sends      |
    | 1      | 0 | 0.9        | 0.6        | both         | -0.3 | keeps      |
    | 2      | 0 | 0.2        | 0.7        | cloud        | 0.5  | sends      |
    | 3      | 0 | 0.1        | 0.9        | cloud        | 0.8  | sends      |
    | 4      | 1 | 0.1        | 0.9        | cloud        | 0.8  | sends      |
    | 5      | 1 | 0.7        | 0.3        | local        | -0.4 | keeps      |
    | 6      | 1 | 0.3        | 0.1        | neither      | -0.2 | sends      |
    | 7      | 1 | 0.8        | 0.6        | both         | -0.2 | keeps      |

    The rest of each probability is the other one's of the first two classes, but 1e-12.
    """
    y = np.array([0] * 4 + [1] * 4)
    local = np.array([0.6, 0.9, 0.2, 0.1, 0.1, 0.7, 0.3, 0.8])
    cloud = np.array([0.9, 0.6, 0.7, 0.9, 0.9, 0.3, 0.1, 0.6])

    def of(p):
        return np.stack([np.where(y == c, p, 1 - p) for c in (0, 1)] + [np.full(8, 1e-12)], axis=1)

    return bank_of(of(local), of(cloud), y)


def test_the_four_cases_each_in_its_cell(four_cases):
    # Sent are 0 (only the cloud is right) and 2 (both are; B_k = 0.1): as the oracle would. Kept
    # are 1 (only local is right), as the oracle would, and 3 (neither), which it would send.
    table = disagreement(np.array([True, False, True, False]), four_cases)
    assert list(table.columns) == COLUMNS
    assert len(table) == 3 * 4 * 2  # all and two classes, cases, decisions
    counts = table[table["count"] > 0].set_index(["class", "case", "decision"])[
        ["count", "share", "agreeing"]
    ]
    for_all = {
        ("only_local", "kept"): (1, 1 / 4, 1),
        ("only_cloud", "sent"): (1, 1 / 4, 1),
        ("both_right", "sent"): (1, 1 / 4, 1),
        ("both_wrong", "kept"): (1, 1 / 4, 0),
    }
    # The true class is always 0.
    expected = {(name, *key): row for name in ("all", "0") for key, row in for_all.items()}
    assert {key: tuple(row) for key, row in zip(counts.index, counts.to_numpy())} == expected


def test_rows_come_in_the_order_of_classes_cases_and_decisions(four_cases):
    table = disagreement(np.zeros(4, bool), four_cases, ["cat", "dog"])
    expected = [(n, c, d) for n in ("all", "cat", "dog") for c in CASES for d in DECISIONS]
    assert list(zip(table["class"], table["case"], table["decision"])) == expected


def test_a_cell_holds_the_means_of_its_samples(four_cases):
    row = cell(disagreement(np.ones(4, bool), four_cases), "all", "only_cloud", "sent")
    assert row["local_entropy"] == pytest.approx(-(0.2 * np.log2(0.2) + 0.8 * np.log2(0.8)))
    assert row["local_margin"] == pytest.approx(0.8 - 0.2)
    assert row["p_local_true"] == pytest.approx(0.2)
    assert row["p_cloud_true"] == pytest.approx(0.9)
    assert row["benefit"] == pytest.approx(0.7)


def test_both_right_may_be_sent_with_the_oracle_and_against_it(eight):
    table = disagreement(np.ones(8, bool), eight, ["a", "b", "c"])
    # Samples 0, 1 and 7; the oracle sends 0 alone.
    row = cell(table, "all", "both_right", "sent")
    assert (row["count"], row["share"], row["agreeing"]) == (3, 3 / 8, 1)
    assert row["p_local_true"] == pytest.approx((0.6 + 0.9 + 0.8) / 3)
    assert row["p_cloud_true"] == pytest.approx((0.9 + 0.6 + 0.6) / 3)
    assert row["local_margin"] == pytest.approx((0.2 + 0.8 + 0.6) / 3)
    row = cell(table, "a", "both_right", "sent")
    assert (row["count"], row["share"], row["agreeing"]) == (2, 2 / 4, 1)
    row = cell(table, "b", "both_right", "sent")
    assert (row["count"], row["share"], row["agreeing"]) == (1, 1 / 4, 0)
    row = cell(disagreement(np.zeros(8, bool), eight), "all", "both_right", "kept")
    assert (row["count"], row["agreeing"]) == (3, 2)


def test_where_there_is_no_sample_there_is_no_mean(eight):
    table = disagreement(np.ones(8, bool), eight)
    row = cell(table, "all", "only_cloud", "kept")
    assert (row["count"], row["share"], row["agreeing"]) == (0, 0.0, 0)
    assert np.isnan([row[name] for name in COLUMNS[6:]]).all()
    # No sample of class 2 at all, hence no share of them either.
    absent = table[table["class"] == "2"]
    assert absent["count"].sum() == 0
    assert absent["share"].isna().all()


def test_the_benefit_is_that_of_the_cost(eight):
    table = disagreement(np.ones(8, bool), eight, cost="zero_one")
    assert cell(table, "all", "only_cloud", "sent")["benefit"] == 1.0
    assert cell(table, "all", "both_right", "sent")["benefit"] == 0.0


def test_cells_add_up_to_the_bank_and_to_the_decision_accuracy():
    bank = random_outcomes(500)
    offloaded = np.random.default_rng(0).random(500) < 0.3
    table = disagreement(offloaded, bank)
    everyone = table[table["class"] == "all"]
    assert everyone["count"].sum() == 500
    assert everyone["share"].sum() == pytest.approx(1.0)
    assert everyone.groupby("decision")["count"].sum()["sent"] == offloaded.sum()
    accuracy = decision_accuracy(offloaded, bank)
    assert everyone["agreeing"].sum() / 500 == pytest.approx(accuracy)
    found = examples(offloaded, bank, per_cell=500)
    assert sum(map(len, found.values())) == 500 - everyone["agreeing"].sum()


def test_examples_are_the_disagreements_most_confident_first(eight):
    # Against the oracle: sent are 1, 5 and 7; kept are 0, 2, 3, 4 and 6.
    offloaded = np.array([0, 1, 0, 0, 0, 1, 0, 1], bool)
    found = {name: rows.tolist() for name, rows in examples(offloaded, eight).items()}
    assert found == {
        "only_local/sent": [5],
        "only_cloud/kept": [3, 4, 2],  # 3 and 4 tie at B_k = 0.8
        "both_right/sent": [1, 7],
        "both_right/kept": [0],
        "both_wrong/kept": [6],
    }
    assert examples(offloaded, eight, per_cell=2)["only_cloud/kept"].tolist() == [3, 4]


def test_whoever_agrees_with_the_oracle_gives_no_examples(eight):
    found = examples(np.array([1, 0, 1, 1, 1, 0, 1, 0], bool), eight)
    assert list(found) == [f"{case}/{decision}" for case, decision in MISTAKES]
    assert all(rows.shape == (0,) and rows.dtype == np.int64 for rows in found.values())


@pytest.mark.parametrize("function", [disagreement, examples])
@pytest.mark.parametrize(
    ("offloaded", "received"),
    [
        (np.zeros(3, bool), r"bool \(3,\)"),
        (np.zeros((4, 1), bool), r"bool \(4, 1\)"),
        (np.zeros(4), r"float64 \(4,\)"),
        ([True] * 4, r"list \(4,\)"),
    ],
)
def test_a_decision_a_sample_is_needed(four_cases, function, offloaded, received):
    with pytest.raises(ValueError, match=rf"bool array of shape \(4,\).*received {received}"):
        function(offloaded, four_cases)


@pytest.mark.parametrize("names", [["cat"], ["cat", "cat"], ["cat", "all"], ["a", "b", "c"]])
def test_class_names_are_one_different_name_a_class(four_cases, names):
    with pytest.raises(ValueError, match="must be 2 different names other than 'all'; received"):
        disagreement(np.zeros(4, bool), four_cases, names)


def test_some_examples_must_be_asked_for(four_cases):
    with pytest.raises(ValueError, match="per_cell must be at least 1; received 0"):
        examples(np.zeros(4, bool), four_cases, per_cell=0)
