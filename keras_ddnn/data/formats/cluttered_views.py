"""The embedded dataset of several cameras: one handwritten digit, seen by four at a time.

A sample is one array (camera, height, width, channel) of 4 × 32 × 32 × 1 grey pixels. The digit of
all four frames is the same drawn one. Each camera turns, slants, scales and places it anew, and has
its own pieces of other digits, contrast, noise and occlusion:

=======  ==================  ====================  =====================  ==============
camera   turned by, radians  contrast, grey levels  noise, grey levels     sees the digit
=======  ==================  ====================  =====================  ==============
0        -0.30 ± 0.2         110 to 170             14                     85%
1        +0.10 ± 0.2         90 to 150              20                     80%
2        +0.30 ± 0.2         70 to 130              26                     75%
3        -0.10 ± 0.2         50 to 110              30                     70%
=======  ==================  ====================  =====================  ==============

Even cameras show light digits on dark paper (30 to 80), odd ones dark on light (175 to 225). Noise
is the standard deviation of each pixel. A camera that does not see the digit has the clutter alone;
in each sample at least one sees it, drawn at random where none would. In half of all frames a
rectangle of one grey, with sides of 8 to 16 pixels, lies over everything but the noise. Scale,
slant, thickness and the five pieces of clutter are those of ``cluttered_digits``, as are the
digits, which are divided among the splits first.

Pixels are 1 to 255: a frame of zeros is a camera that is absent, and here none is. These numbers
were chosen before any network was trained on the data, and do not change.
"""

from typing import NamedTuple

import numpy as np

from keras_ddnn.data.formats.cluttered_digits import (
    SIDE,
    STAMP,
    blend,
    draw_clutter,
    draw_splits,
    enlarge,
    warp,
)


class Camera(NamedTuple):
    """How one camera sees: see the table of the module."""

    turn: float
    contrast: tuple[float, float]
    noise: float
    sees: float


CAMERAS = (
    Camera(turn=-0.30, contrast=(110, 170), noise=14, sees=0.85),
    Camera(turn=0.10, contrast=(90, 150), noise=20, sees=0.80),
    Camera(turn=0.30, contrast=(70, 130), noise=26, sees=0.75),
    Camera(turn=-0.10, contrast=(50, 110), noise=30, sees=0.70),
)
PAPER = (30, 80)  # grey of dark paper; light paper is as far from white
TEXTURE = 8  # standard deviation of the paper's grey at 5×5 places
OCCLUDED = 0.5  # share of the frames
OCCLUSION = (8, 16)  # sides of what lies over a frame


def generate(sizes, seed=0):
    """Generate samples of four grey 32×32 frames of one digit; see the module.

    Args:
        sizes: number of samples in each split, by name: train, val, test.
        seed: draws everything.

    Returns:
        dict: split name → (uint8 frames (n, 4, 32, 32, 1), int64 labels (n,)).
    """
    return draw_splits(sizes, seed, _draw_views)


def _draw_views(glyphs, chosen, rng):
    """Draw the frames of all cameras of one digit per sample, uint8 (n, D, SIDE, SIDE, 1)."""
    n = len(chosen)
    seen = rng.random((n, len(CAMERAS))) < [camera.sees for camera in CAMERAS]
    (unseen,) = np.nonzero(~seen.any(axis=1))
    seen[unseen, rng.integers(len(CAMERAS), size=len(unseen))] = True
    frames = [
        _draw_frames(glyphs, chosen, camera, seen[:, place], place % 2 == 0, rng)
        for place, camera in enumerate(CAMERAS)
    ]
    return np.stack(frames, axis=1)


def _draw_frames(glyphs, chosen, camera, seen, dark, rng):
    """Draw the frames of one camera: paper, clutter, the digit where it is seen, what covers it."""
    n = len(chosen)
    paper, contrast = rng.uniform(*PAPER, (n, 1)), rng.uniform(*camera.contrast, (n, 1))
    paper, ink = (paper, paper + contrast) if dark else (255 - paper, 255 - paper - contrast)
    paper, ink = paper.astype(np.float32), ink.astype(np.float32)
    texture = enlarge(rng.normal(0, TEXTURE, (n, 1, 5, 5)).astype(np.float32), SIDE)
    scene = np.add(paper[:, None, None], texture.transpose(0, 2, 3, 1), order="C")
    stamps = warp(glyphs, chosen, rng, camera.turn)
    draw_clutter(scene, stamps, ink, rng)
    blend(scene, stamps * seen[:, None, None], ink, rng.integers(0, SIDE - STAMP + 1, (n, 2)))
    grey = rng.uniform(0, 255, (n, 1, 1, 1)).astype(np.float32)
    scene = np.where(_covered(n, rng), grey, scene)
    scene += camera.noise * rng.standard_normal(scene.shape, dtype=np.float32)
    return np.clip(scene, 1, 255).astype(np.uint8)


def _covered(n, rng):
    """Return which pixels a rectangle covers, bool (n, SIDE, SIDE, 1); none in some frames."""
    sides = rng.integers(OCCLUSION[0], OCCLUSION[1] + 1, (n, 2, 1))
    corners = rng.integers(0, SIDE - sides + 1)
    places = np.arange(SIDE)
    rows, columns = np.moveaxis((places >= corners) & (places < corners + sides), 1, 0)
    covered = rows[:, :, None] & columns[:, None, :]
    return (covered & (rng.random((n, 1, 1)) < OCCLUDED))[..., None]
