"""The embedded series: the traffic of radio cells, which needs no network.

24 cells over 12 weeks of hours from Monday, 4 March 2024. The traffic of a cell is

    base · trend · (floor + day cycle · week cycle) · exp(noise) · bursts,    in gigabytes an hour.

- base: log-normal over cells, median 20, deviation 0.5 of its logarithm.
- trend: grows by 0% to 3% a week, linearly.
- day cycle: a mixture of two humps of the hour of day, by the share of offices in the cell, which
  is uniform in 0..1: offices peak at 13 h (width 3 h), homes at 21 h (width 2.5 h); the floor is
  0.08. On Saturday and Sunday offices have 30% of their traffic, homes 115%.
- noise: first-order autoregressive, correlation 0.8 from hour to hour, deviation 0.12; half of its
  variance is shared by all cells.
- bursts: in each cell, on average every 60 hours, the traffic is multiplied by 1 + an exponential
  number of mean 1, for 2 to 5 hours. In the hour before, as people arrive, by 1.15.

These numbers are ours; they are not fitted to any operator's data.
"""

import numpy as np

from keras_ddnn.data.series.series import Series

CELLS, WEEKS, HOURS_A_DAY, DAYS = 24, 12, 24, 7
FIRST = np.datetime64("2024-03-04T00:00:00", "s")
FLOOR = 0.08
EVERY, ARRIVING = 60, 1.15  # hours between bursts; what the hour before a burst is multiplied by


def generate(seed: int = 0) -> Series:
    """Generate the traffic of all cells; a seed gives the same numbers on every machine."""
    rng = np.random.default_rng(seed)
    steps = WEEKS * DAYS * HOURS_A_DAY
    hour = np.arange(steps) % HOURS_A_DAY
    weekend = np.arange(steps) // HOURS_A_DAY % DAYS >= 5
    base = 20.0 * np.exp(rng.normal(0.0, 0.5, CELLS))
    growth = rng.uniform(0.0, 0.03, CELLS) * np.arange(steps)[:, None] / (DAYS * HOURS_A_DAY)
    offices = rng.uniform(size=CELLS)
    office = _hump(hour, 13, 3.0) * np.where(weekend, 0.30, 1.0)
    home = _hump(hour, 21, 2.5) * np.where(weekend, 1.15, 1.0)
    cycle = FLOOR + offices * office[:, None] + (1.0 - offices) * home[:, None]
    noise = np.sqrt(0.5) * (_noise(rng, steps, 1) + _noise(rng, steps, CELLS))
    traffic = base * (1.0 + growth) * cycle * np.exp(0.12 * noise) * _bursts(rng, steps)
    names = tuple(f"cell_{number:02d}" for number in range(CELLS))
    return Series(traffic, names, FIRST + np.arange(steps) * np.timedelta64(3600, "s"))


def _hump(hour: np.ndarray, peak: float, width: float) -> np.ndarray:
    """Return a bell over the hours of the day, which is a circle."""
    away = np.abs(hour - peak)
    return np.exp(-0.5 * (np.minimum(away, HOURS_A_DAY - away) / width) ** 2)


def _noise(rng: np.random.Generator, steps: int, count: int) -> np.ndarray:
    """Return first-order autoregressive noise of variance 1, (steps, count)."""
    shocks = rng.normal(size=(steps, count))
    noise = np.empty_like(shocks)
    noise[0] = shocks[0]
    for step in range(1, steps):
        noise[step] = 0.8 * noise[step - 1] + 0.6 * shocks[step]
    return noise


def _bursts(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Return what traffic is multiplied by, (steps, cells)."""
    factors = np.ones((steps, CELLS))
    for step, cell in np.argwhere(rng.random((steps, CELLS)) < 1.0 / EVERY):
        end = step + rng.integers(2, 6)
        factors[step:end, cell] *= 1.0 + rng.exponential()
        if step:
            factors[step - 1, cell] *= ARRIVING
    return factors
