"""Which network for which link: latencies and bytes that a reader can add up, and the choice."""

import pandas as pd
import pytest

from figures import tradeoff as figure
from figures.__main__ import main as draw_figures
from keras_ddnn.evaluation.cut_latency import Machines
from tune import tradeoff

# A thousand multiply-adds a millisecond on the device, ten thousand in the cloud, a byte a
# millisecond, and a round trip of a tenth of a second.
SLOW = Machines(1e6, 1e7, 1e3, 0.1)


def point(at: str | None, accuracy: float, sent: float, device: int | None = 900, **fields) -> dict:
    return {
        "network": at and "package.module:net",
        "at": at,
        "bottleneck": None,
        "lambda_local": 0.5,
        "seed": 0,
        "trial": at,
        "accuracy": accuracy,
        "local_fraction": 0.25,
        "device_multiply_adds": device,
        "head_multiply_adds": 100,
        "cloud_multiply_adds": 20_000,
        "sent_bytes": sent,
    } | fields


def test_latencies_and_bytes_are_means_over_kept_and_offloaded_samples():
    row = tradeoff.compared([point("early", 0.8, 400)], SLOW).iloc[0]
    kept = (900 + 100) / 1e3
    offloaded = kept + 400 + 100 + 20_000 / 1e4
    assert (row["kept_ms"], row["offloaded_ms"]) == pytest.approx((kept, offloaded))
    assert row["mean_ms"] == pytest.approx(0.25 * kept + 0.75 * offloaded)
    assert row["mean_bytes"] == 0.75 * 400


def test_the_fastest_that_is_nearly_the_best_is_recommended():
    rows = [
        point("slow", 0.900, 4000),  # the best
        point("enough", 0.891, 400),
        point("poor", 0.889, 100),  # more than a point below the best
        point("worse", 0.850, 4100),  # beaten in everything
    ]
    table = tradeoff.compared(rows, SLOW).set_index("network")
    assert table.index.tolist() == [
        f"cut behind {at}" for at in ("poor", "enough", "slow", "worse")
    ]
    assert table["pareto"].tolist() == [True, True, True, False]
    assert table["recommended"].tolist() == [False, True, False, False]
    said = tradeoff.recommendation(table.reset_index(), SLOW, 0.25)
    assert "\n" not in said
    assert "round trip 100 ms: cut behind enough, 89.10% at 378 ms and 300 bytes a sample" in said
    assert "(best: cut behind slow, 90.00% at 3.08e+03 ms and 3,000 bytes a sample)" in said


def test_of_networks_that_are_equally_fast_the_more_accurate_is_recommended():
    # As the heads of two networks of one cut, of which one is a little larger.
    rows = [point("a", 0.895, 400, lambda_local=0.3), point("a", 0.9, 400, 950, lambda_local=0.7)]
    table = tradeoff.compared(rows, SLOW)
    assert table.loc[table["recommended"], "network"].tolist() == ["λ 0.7"]
    assert "best:" not in tradeoff.recommendation(table, SLOW, 0.25)


def test_bottlenecks_differ_in_what_they_send():
    rows = [point(None, 0.9, 16_384), point(None, 0.895, 1024, bottleneck=32)]
    table = tradeoff.compared(rows, SLOW)
    assert table["network"].tolist() == ["bottleneck 32", "no bottleneck"]
    assert table["mean_bytes"].tolist() == [768, 12_288]
    assert table["recommended"].tolist() == [True, False]


def test_a_chain_and_a_cut_have_names_of_their_own():
    chained = point(None, 0.9, 768, network="a:b+c:d")
    table = tradeoff.compared([chained, point("early", 0.9, 400), point(None, 0.9, 300)], SLOW)
    expected = ["paper", "package.module:net, cut behind early", "a:b+c:d"]
    assert table["network"].tolist() == expected


def test_what_is_unknown_is_neither_recommended_nor_optimal():
    rows = [point("known", 0.8, 400), point("unknown", 0.9, 100, None)]
    table = tradeoff.compared(rows, SLOW).set_index("network")
    assert table["recommended"].to_dict() == {"cut behind known": True, "cut behind unknown": False}
    assert not table.loc["cut behind unknown", "pareto"]
    said = tradeoff.recommendation(table.reset_index(), SLOW, 0.25)
    assert said.endswith("; 1 with unknown multiply-adds left out")
    nothing = tradeoff.compared([point("unknown", 0.9, 100, None)], SLOW)
    assert "all networks are unknown" in tradeoff.recommendation(nothing, SLOW, 0.25)


def test_the_figure_marks_what_is_optimal_and_what_is_recommended(tmp_path):
    rows = [point("slow", 0.9, 4000), point("enough", 0.891, 400), point("worse", 0.85, 4100)]
    table = tradeoff.compared(rows, SLOW)
    latency, sent = figure.draw(table, str(SLOW)).axes
    assert latency.get_xlabel() == "mean latency of a sample (ms)"
    assert sent.get_xlabel() == "mean bytes of a sample (kB)"
    for axes in (latency, sent):
        points = {line.get_label(): line.get_xydata() for line in axes.lines}
        assert [len(points[name]) for name in ("network", "Pareto-optimal")] == [1, 2]
        assert points["recommended"][:, 1].tolist() == pytest.approx([89.1])
    assert points["Pareto-optimal"][:, 0].tolist() == pytest.approx([0.3, 3.0])  # kB
    table.to_csv(tmp_path / "tradeoff.csv", index=False)
    assert draw_figures(["--results", str(tmp_path)]) == 0
    assert (tmp_path / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "tradeoff.csv")[["pareto"]], table[["pareto"]]
    )
