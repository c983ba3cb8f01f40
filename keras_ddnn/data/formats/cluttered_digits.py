"""The embedded dataset: handwritten digits among fragments of others, which needs no network.

It shows the trade-off of a DDNN in a minute of training: after five epochs (Adam, one cycle to
3e-3) the paper's local network reaches about 65% on test data and its cloud about 90%.
"""

import numpy as np

SIDE = 32
GLYPH = 40  # side of an enlarged source digit: five times the 8×8 of scikit-learn
STAMP = 24  # side of the square a digit is drawn in
PIECE = 7  # side of the square a fragment is cut from a drawn digit
PIECES = 5  # fragments in one image


def generate(sizes, seed=0):
    """Generate 32×32 colour images of one handwritten digit among fragments of other digits.

    The 1,797 source digits of ``sklearn.datasets.load_digits`` are divided among the splits first,
    so neither a digit nor a fragment of it appears in two splits.

    Args:
        sizes: number of images in each split, by name: train, val, test.
        seed: draws everything.

    Returns:
        dict: split name → (uint8 images (n, 32, 32, 3), int64 labels (n,)).
    """
    return draw_splits(sizes, seed, _draw_scenes)


def draw_splits(sizes, seed, draw):
    """Draw scenes of digits, a digit of each split in its own scenes alone.

    Args:
        sizes, seed: see ``generate``.
        draw: (glyphs, indices of the chosen ones (n,), NumPy generator) → uint8 scenes (n, ...).

    Returns:
        dict: split name → (uint8 scenes, int64 labels (n,)).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(seed)
    splits = {}
    for what, sources in split_sources(digits.target, seed).items():
        glyphs = enlarge(digits.images[sources].astype(np.float32) / 16, GLYPH)
        glyphs = np.pad(glyphs, ((0, 0), (1, 1), (1, 1)))
        chosen = rng.integers(len(sources), size=sizes[what])
        # In batches that fit the processor's cache.
        batches = np.array_split(chosen, max(1, len(chosen) // 500))
        images = np.concatenate([draw(glyphs, batch, rng) for batch in batches])
        splits[what] = images, digits.target[sources[chosen]]
    return splits


def split_sources(labels, seed):
    """Divide the source digits into disjoint index arrays, keyed train, val and test."""
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed
    )
    train, val = train_test_split(rest, test_size=0.15, stratify=labels[rest], random_state=seed)
    return {"train": train, "val": val, "test": test}


def enlarge(images, side):
    """Interpolate square images (..., k, k) to (..., side, side) with a narrow Gaussian."""
    k = images.shape[-1]
    target = (np.arange(side, dtype=np.float32) + 0.5) * k / side - 0.5
    weights = np.exp(-2 * (target[:, None] - np.arange(k, dtype=np.float32)) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ images @ weights.T


def _draw_scenes(glyphs, chosen, rng):
    """Draw one scene per chosen glyph: background, then fragments, then the digit on top."""
    n = len(chosen)
    paper, ink = _colours(n, rng)
    texture = enlarge(rng.normal(0, 22, (n, 3, 5, 5)).astype(np.float32), SIDE)
    scene = np.add(paper[:, None, None], texture.transpose(0, 2, 3, 1), order="C")
    stamps = warp(glyphs, chosen, rng)
    draw_clutter(scene, stamps, ink, rng)
    blend(scene, stamps, ink, rng.integers(0, SIDE - STAMP + 1, (n, 2)))
    scene += rng.integers(-12, 13, scene.shape, dtype=np.int8)
    return np.clip(scene, 0, 255).astype(np.uint8)


def draw_clutter(scene, stamps, ink, rng):
    """Draw pieces of the stamps of other scenes into scenes (n, h, w, c) of ink (n, c)."""
    n = len(scene)
    for _ in range(PIECES):
        # Cut from another image's digit, of any class: the clutter must not spell the answer.
        other = stamps[(np.arange(n) + rng.integers(1, n)) % n]
        corner = rng.integers(3, STAMP - PIECE - 2, (n, 2))
        piece = 0.8 * other[_windows(other, corner, PIECE)]
        tint = ink + rng.normal(0, 20, ink.shape).astype(np.float32)
        blend(scene, piece, tint, rng.integers(0, SIDE - PIECE + 1, (n, 2)))


def _colours(n, rng):
    """Return paper and ink colours, float32 (n, 3), one light and one dark in random order."""
    dark = rng.uniform(0, 110, (n, 3))
    light = rng.uniform(145, 255, (n, 3))
    swap = rng.random((n, 1)) < 0.5
    return (np.where(swap, a, b).astype(np.float32) for a, b in ((dark, light), (light, dark)))


def warp(glyphs, chosen, rng, turn=0.0):
    """Draw each chosen glyph turned, slanted, scaled and thickened: ink in 0..1, (n, STAMP²).

    Angles in radians are drawn around ``turn``.
    """
    n = len(chosen)
    angle, slant = turn + rng.uniform(-0.2, 0.2, n), rng.uniform(-0.2, 0.2, n)
    height, width = rng.uniform(18, 22, n), rng.uniform(19, 24, n)
    threshold = rng.uniform(0.45, 0.6, n)
    y, x = np.mgrid[:STAMP, :STAMP].astype(np.float32) - (STAMP - 1) / 2
    angle, slant, height, width, threshold = (
        values.astype(np.float32)[:, None, None]
        for values in (angle, slant, height, width, threshold)
    )
    # From each pixel of the stamp back to the glyph, which has a blank border to clip to.
    rows = (np.cos(angle) * y + np.sin(angle) * x) * (GLYPH / height)
    cols = (np.cos(angle) * x - np.sin(angle) * y) * (GLYPH / width) + slant * rows
    rows, cols = (
        np.rint(c + GLYPH / 2 + 0.5).clip(0, GLYPH + 1).astype(np.int32) for c in (rows, cols)
    )
    ink = glyphs[chosen[:, None, None], rows, cols]
    return np.clip((ink - threshold) * 3 + 0.5, 0, 1)


def _windows(images, corners, side):
    """Return for each image an index of the side×side window at its (row, column) corner."""
    span = np.arange(side)
    rows = corners[:, :1, None] + span[None, :, None]
    cols = corners[:, 1:, None] + span[None, None, :]
    return np.arange(len(images))[:, None, None], rows, cols


def blend(scene, ink, colour, corners):
    """Draw ink (n, s, s) of colours (n, c) into scenes (n, h, w, c), its corners at (n, 2)."""
    window = _windows(scene, corners, ink.shape[1])
    under = scene[window]
    scene[window] = under + ink[..., None] * (colour[:, None, None] - under)
