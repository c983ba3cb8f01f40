"""Series over time: windows, splits by time, files, the embedded cells, and networks of them."""

import keras
import numpy as np
import pandas as pd
import pytest

from keras_ddnn.data.series import cell_traffic
from keras_ddnn.data.series.files import read_milano, read_table
from keras_ddnn.data.series.load import load_series
from keras_ddnn.data.series.series import Series
from keras_ddnn.data.series.windows import split_by_time
from keras_ddnn.labels.sources import fold_rows
from keras_ddnn.networks.architectures.named_models import NETWORKS, named_model
from keras_ddnn.networks.compose import chain, split
from keras_ddnn.tasks.regression import Regression
from keras_ddnn.training.fit import fit_ddnn

HOUR = np.timedelta64(3600, "s")
MONDAY = np.datetime64("2024-03-04T00:00:00", "s")
TASK = Regression(quantiles=(0.1, 0.5, 0.9))


def two_series(steps=50, seed=0):
    values = np.random.default_rng(seed).gamma(4.0, size=(steps, 2)) * [1.0, 100.0]
    return Series(values, ("a", "b"), MONDAY + np.arange(steps) * HOUR)


class TestWindows:
    def test_a_window_is_followed_by_its_target(self):
        # 0, 1, …, 19 and its tenfold: the first ten steps train, and their means are 4.5 and 45.
        values = np.arange(20.0)[:, None] * [1.0, 10.0]
        parts = split_by_time(
            Series(values, ("a", "b")), length=3, horizon=2, shares=(0.5, 0.25, 0.25)
        )
        np.testing.assert_allclose(parts.scale, [4.5, 45.0])
        inputs, targets = np.asarray(parts.train.images), parts.train.labels
        # Windows end after steps 3 to 8, of both series at each time.
        assert inputs.shape == (2 * 6, 3, 1)
        np.testing.assert_allclose(4.5 * inputs[:2, :, 0], [[0, 1, 2]] * 2, rtol=1e-6)
        np.testing.assert_allclose(4.5 * targets[:4], [4, 4, 5, 5])
        np.testing.assert_allclose(4.5 * inputs[-1, :, 0], [5, 6, 7], rtol=1e-6)
        assert 4.5 * targets[-1] == pytest.approx(9)
        # Validation begins anew at step 10.
        np.testing.assert_allclose(4.5 * np.asarray(parts.val.images)[0, :, 0], [10, 11, 12])
        np.testing.assert_array_equal(parts.series_of(np.arange(4)), [0, 1, 0, 1])

    def test_the_clock_stands_beside_each_step(self):
        parts = split_by_time(two_series(), length=6)
        window = np.asarray(parts.train.images)[0]
        assert window.shape == (6, 5)
        hours = np.arange(6)
        np.testing.assert_allclose(window[:, 1], np.sin(2 * np.pi * hours / 24), atol=1e-6)
        # Weeks are counted from 1 January 1970, a Thursday; Monday is four days later.
        np.testing.assert_allclose(
            window[:, 4], np.cos(2 * np.pi * (4 * 24 + hours) / 168), atol=1e-6
        )

    @pytest.mark.parametrize("step", [10, 29, 30, 41, 49])
    def test_what_comes_later_changes_nothing_before_it(self, step):
        before = two_series()
        values = before.values.copy()
        values[step:] *= 3.0
        after = Series(values, before.names, before.times)
        shares, length = (0.6, 0.2, 0.2), 4
        kept, changed = (split_by_time(s, length=length, shares=shares) for s in (before, after))
        first = 0
        for part, steps in (("train", 30), ("val", 10), ("test", 10)):
            ours, theirs = (getattr(each, part) for each in (kept, changed))
            scale = changed.scale / kept.scale  # by which training steps were changed
            ends = first + length + np.arange(len(ours)) // 2  # the step of each target
            early = ends < step
            targets = theirs.labels * np.tile(scale, len(ours) // 2)
            np.testing.assert_allclose(targets[early], ours.labels[early])
            inputs = np.asarray(theirs.images)[..., 0] * np.tile(scale, len(ours) // 2)[:, None]
            np.testing.assert_allclose(
                inputs[early], np.asarray(ours.images)[early][..., 0], rtol=1e-5
            )
            first += steps
        if step >= 30:  # what is later than training does not scale it
            np.testing.assert_array_equal(changed.scale, kept.scale)

    def test_folds_are_blocks_that_share_no_number_with_the_rest(self):
        length, horizon = 3, 2
        parts = split_by_time(two_series(100), length=length, horizon=horizon)
        train = parts.train
        assert train.gap == (length + horizon) * 2
        seen = np.zeros(len(train), int)
        for rest, block in fold_rows(train.labels, 0, train.gap):
            seen[block] += 1
            np.testing.assert_array_equal(block, np.arange(block[0], block[-1] + 1))
            steps = [{*range(r // 2, r // 2 + length + horizon)} for r in (block[0], block[-1])]
            for row in rest:
                own = {*range(row // 2, row // 2 + length + horizon)}
                assert not own & steps[int(row > block[-1])]
        np.testing.assert_array_equal(seen, 1)

    def test_rows_that_go_back_in_time_are_refused(self):
        train = split_by_time(two_series(), length=4).train
        assert train.take(np.arange(0, 10, 2)).gap == train.gap
        with pytest.raises(ValueError, match="rows that go forward in time"):
            train.take(np.array([3, 1]))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"length": 9, "horizon": 2}, "val steps of series: expected 11 steps or more"),
            ({"shares": (0.5, 0.2, 0.2)}, "three whose sum is 1"),
            ({"length": 0}, "length"),
        ],
    )
    def test_what_cannot_be_cut_is_refused(self, change, message):
        with pytest.raises(ValueError, match=message):
            split_by_time(two_series(), **change)

    def test_a_series_without_a_mean_is_refused(self):
        with pytest.raises(ValueError, match="series 'b': expected a mean above 0"):
            split_by_time(Series(np.ones((500, 2)) * [1, 0], ("a", "b")))


class TestFiles:
    @pytest.mark.parametrize("ending", [".csv", ".parquet"])
    def test_a_table_has_a_column_a_series_and_perhaps_times(self, ending, tmp_path):
        series = two_series()
        table = pd.DataFrame(series.values, columns=["a", "b"])
        table.insert(0, "time", series.times)
        path = tmp_path / f"load{ending}"
        table.to_csv(path, index=False) if ending == ".csv" else table.to_parquet(path)
        read = read_table(path)
        np.testing.assert_allclose(read.values, series.values)
        np.testing.assert_array_equal(read.times, series.times)
        assert read_table(path, ["b"]).names == ("b",)
        assert load_series(path, length=4).name == "load"

    @pytest.mark.parametrize("first", [11, 12, 13])
    def test_days_may_come_first_where_one_of_them_is_no_month(self, first, tmp_path, recwarn):
        days = [f"{day:02}/03/2024" for day in range(first, first + 3)]
        path = tmp_path / "load.csv"
        path.write_text("t,a\n" + "".join(f"{day},{5**k % 7}\n" for k, day in enumerate(days)))
        assert read_table(path).times[0] == np.datetime64(f"2024-03-{first}")
        assert not recwarn.list

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("a,b\n1,2\n3,\n", "series 'b': expected a finite number at each step"),
            ("t,a\n2024-01-01,1\n2024-01-02,1\n2024-01-04,1\n", "expected equal steps"),
            ("t,a\n2024-01-02,1\n2024-01-01,1\n", "times that go back"),
            ("t,a\nsoon,1\n", "column 't': expected times, .* received 'soon'"),
            ("t,a\n2024-01-31,1\nsoon,2\n", "received 'soon'$"),
            ("t,a\nyes,1\nno,2\n", "received 'yes'$"),
            ("t,a\nTrue,1\nFalse,2\n", "received 'True'$"),
            ("t,a\n2024-01-31,1\n2024-02-01 12:00,2\n", "received '2024-02-01 12:00'$"),
            ("t,a\n01/03/2024 00:00,1\n01/03/2024 01:00,2\n", "write the year first"),
            ("t\n2024-01-01\n", "a column of numbers, one a series"),
            ("t,a,b\n2024-01-01,1,2\n2024-01-02,abc,3\n", "at most one column of times"),
            (",a\n0,5\n1,3\n2,9\n", "a clock or an index: name the series by columns="),
            ("s,a\n.5,5\n1,3\n1.5,9\n", r"\['s'\], by name or steps"),
            ("start,a\n3600,5\n7200,3\n14400,9\n", r"\['start'\], by name or steps a clock"),
            ("Unix_time,a\n5,5\n5,3\n", r"\['Unix_time'\], by name"),
            ("hour,a\n23,5\n0,3\n", r"\['hour'\], by name"),
            ("date,a\n20240101,5\n20240101,3\n", r"\['date'\], by name"),
            ("", "load.csv: expected a table, .csv, received No columns"),
            ("a,b\n", "load.csv: expected a row a step"),
            ("t;a\n1;2,5\n", "columns parted by commas"),
            ("2024-01-01,4\n2024-01-02,5\n", "a first row with the names"),
            ("a,a\n1,2\n5,3\n", "a name of its own for each column"),
        ],
    )
    def test_a_table_that_says_no_series_is_refused_in_one_line(self, content, message, tmp_path):
        (path := tmp_path / "load.csv").write_text(content)
        with pytest.raises(ValueError, match=message) as error:
            read_table(path)
        assert "\n" not in str(error.value)

    def test_a_file_that_is_no_text_is_named(self, tmp_path):
        for name in ("load.csv", "load.parquet"):
            (path := tmp_path / name).write_bytes(b"\x89PNG\xff\x00\n")
            with pytest.raises(ValueError, match=f"{name}: expected a table"):
                read_table(path)

    def test_what_is_read_as_series_is_told_unless_it_was_named(self, tmp_path, caplog):
        (path := tmp_path / "load.csv").write_text("t,a,b\n2024-01-01,1,2\n2024-01-02,1,3\n")
        read_table(path)
        read_table(path, ["a"])
        assert caplog.messages == [f"{path}: series are a, b; times are 't'"]

    def test_named_series_need_no_mending_of_the_other_columns(self, tmp_path):
        rows = "".join(f"north {k},Mon,2024-01-0{k},{k},1{k}\n" for k in (1, 2, 3))
        (path := tmp_path / "load.csv").write_text("region,day,t,hour,a\n" + rows)
        read = read_table(path, ["a", "hour"])
        assert read.values.tolist() == [[11, 1], [12, 2], [13, 3]]
        assert read.times[2] == np.datetime64("2024-01-03")
        with pytest.raises(ValueError, match=r"columns among hour, a, received \['zzz'\]"):
            read_table(path, ["zzz"])
        path.write_text("t,a\n2024-01-31,1\nsoon,2\n2024-02-02,2\n")
        with pytest.raises(ValueError, match=r"received 'soon'$"):  # a mistake in times
            read_table(path, ["a"])

    def test_columns_are_those_of_a_table(self):
        with pytest.raises(ValueError, match=r"columns: expected a \.csv or .parquet table"):
            load_series("cell_traffic", columns=["cell_00"])

    def test_the_grid_of_milano_is_summed_over_countries_and_hours(self, tmp_path):
        begin = 1383260400000  # 1 November 2013, 0 h in Milano
        lines = [
            (7, begin, 0, "", "", "", "", 1.0),
            (7, begin, 39, "", "", "", "", 2.0),
            (7, begin + 600_000, 39, 0.1, "", "", "", 4.0),
            (7, begin + 3_600_000, 39, "", "", "", "", 8.0),
            (8, begin + 3_600_000, 39, "", "", "", "", 16.0),
            (9, begin, 39, 0.5, "", "", "", ""),
        ]
        text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
        (tmp_path / "sms-call-internet-mi-2013-11-01.txt").write_text(text)
        series = read_milano(tmp_path, [7, 8])
        np.testing.assert_array_equal(series.values, [[7.0, 0.0], [8.0, 16.0]])
        assert series.names == ("square_7", "square_8")
        assert series.times[0] == np.datetime64("2013-10-31T23:00:00")
        fine = read_milano(tmp_path, [7], hourly=False)
        np.testing.assert_array_equal(fine.values[:, 0], [3, 4, 0, 0, 0, 0, 8])
        with pytest.raises(ValueError, match=r"traffic of all squares, received none of \[9\]"):
            read_milano(tmp_path, [7, 9])
        with pytest.raises(ValueError, match="one a day, received none"):
            read_milano(tmp_path / "none", [7])

    def test_a_day_of_milano_that_is_missing_is_named(self, tmp_path):
        for day in (1, 3):
            time = 1383264000000 + (day - 1) * 86_400_000
            (tmp_path / f"sms-call-internet-mi-2013-11-0{day}.txt").write_text(
                f"7\t{time}\t39\t\t\t\t\t1.0\n"
            )
        with pytest.raises(ValueError, match=r"a file of each day, received none of .*2013, 11, 2"):
            read_milano(tmp_path, [7])


class TestCellTraffic:
    def test_it_is_the_same_on_every_machine(self):
        series = cell_traffic.generate(0)
        assert series.values.shape == (12 * 7 * 24, 24)
        assert series.values.mean() == pytest.approx(8.264999753830315, rel=1e-12)
        assert not np.allclose(cell_traffic.generate(1).values, series.values)

    def test_it_has_days_weeks_and_bursts(self):
        values = cell_traffic.generate(0).values
        by_hour = values.reshape(-1, 24, 24).mean(axis=(0, 2))
        assert by_hour[4] < by_hour[13] / 3
        days = values.reshape(-1, 7, 24, 24).mean(axis=(0, 2))  # (7, cells)
        weekend = days[5:].mean(axis=0) / days[:5].mean(axis=0)
        assert weekend.min() < 0.6  # offices
        assert weekend.max() > 1.0  # homes
        jumps = values[1:] / values[:-1]
        assert 0.005 < (jumps > 1.8).mean() < 0.05


class TestNetworks:
    @pytest.mark.parametrize("name", ["tcn_small", "lstm_small"])
    def test_a_later_step_than_the_window_is_never_read(self, name):
        model = named_model(name, (8, 5), 3)
        assert model.output.shape == (None, 3)
        assert NETWORKS[name].classes == 1

    def test_a_temporal_convolution_reads_as_far_as_its_blocks_reach(self):
        model = named_model("tcn_small", (40, 1), 1)
        windows = np.random.default_rng(0).normal(size=(1, 40, 1)).astype("float32")
        # Three blocks of two convolutions of 3 steps, dilated by 1, 2 and 4.
        reach = 1 + 2 * 2 * (1 + 2 + 4)
        other = windows.copy()
        other[:, : 40 - reach] += 1.0
        np.testing.assert_allclose(model(other), model(windows), rtol=1e-2)
        other[:, 40 - reach] += 9.0
        assert np.abs(model(other) - model(windows)).max() > 0

    @pytest.mark.slow
    def test_numbers_are_split_and_chained_like_classes(self):
        parts = split_by_time(two_series(120), length=8)
        keras.utils.set_random_seed(0)
        shape = parts.train.images.shape[1:]
        small, large = (named_model(name, shape, 3) for name in ("tcn_small", "lstm_small"))
        for network in (
            split(large, "block_0", task=TASK),
            chain({"local": small, "cloud": large}, task=TASK),
        ):
            fitted = fit_ddnn(parts.train, parts.val, network=network, epochs=1, verbose=0)
            assert fitted.bank.edge.outputs.shape == (len(parts.train), 3)
            assert fitted.val_bank.costs().shape == (len(parts.val), 2)
            np.testing.assert_allclose(fitted.val_bank.targets, parts.val.labels)
        fold = fitted.fold(1)
        assert len(fold.rows) == 43  # of 128 in three blocks
        np.testing.assert_array_equal(np.diff(fold.rows), 1)

    @pytest.mark.parametrize(
        ("task", "message"),
        [
            (Regression(), r"an output \(n, 1\) of numbers; received \(None, 3\)"),
            (None, None),
        ],
    )
    def test_a_network_of_other_numbers_is_refused(self, task, message):
        model = named_model("tcn_small", (8, 1), 3)
        if task is None:
            assert split(model, "block_0").task.name == "classification"
            return
        with pytest.raises(ValueError, match=message):
            split(model, "block_0", task=task)
