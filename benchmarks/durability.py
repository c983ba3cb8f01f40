"""Kill a search at random moments, resume it, and compare its table with an undisturbed one.

    python -m benchmarks.durability --kills 25

The search, its Ray and its workers are killed as a group, without notice. Between two kills no
finished record may be lost or written again, and at the end the table must be the same to the byte.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SEARCH = (
    *("--epochs", "2", "--lambda-local", "0.3", "0.5", "0.7", "--depth", "1", "2"),
    *("--input", "features", "logits", "logits_plus", "--local-fraction", "0.3", "0.7"),
    *("--loss", "bce", "focal", "--target", "hard", "--anchored", "no"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=60.0, help="seconds before a kill")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = toy_data(folder / "toy.npz")
        undisturbed = folder / "undisturbed" / "out"
        start = time.perf_counter()
        start_search(data, undisturbed).wait()
        seconds = time.perf_counter() - start

        output = folder / "killed" / "out"
        kills = lost = repeated = wrong = 0
        while kills < options.kills:
            before = _records(output)
            search = start_search(data, output)
            # The first seconds go to imports and to Ray, in which there is little to lose.
            try:
                search.wait(timeout=rng.uniform(3.0, min(options.longest, seconds)))
            except subprocess.TimeoutExpired:
                kills += 1
            else:
                wrong += not same_table(undisturbed, output)
                output = folder / f"after{kills}" / "out"  # finished: begin another
                continue
            os.killpg(search.pid, signal.SIGKILL)
            search.wait()
            after = _records(output)
            lost += len(before.keys() - after.keys())
            repeated += sum(after[name] != time for name, time in before.items() if name in after)
        start_search(data, output).wait()
        wrong += not same_table(undisturbed, output)
    print(json.dumps({"kills": kills, "lost": lost, "repeated": repeated, "wrong_tables": wrong}))
    return 1 if lost or repeated or wrong else 0


def toy_data(path: Path) -> Path:
    """Write a dataset of four shades, noisy enough for the cloud to know better."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 3000), ("val", 400), ("test", 400)):
        labels = rng.integers(0, 4, n)
        noise = rng.normal(60 + 40 * labels[:, None, None, None], 60, (n, 16, 16, 3))
        arrays |= {f"x_{split}": noise.clip(0, 255).astype(np.uint8), f"y_{split}": labels}
    np.savez(path, **arrays)
    return path


def start_search(data: Path, output: Path, *options: str) -> subprocess.Popen:
    """Start or resume the search in a process group of its own."""
    resume = ["--resume"] if output.exists() else []
    command = [sys.executable, "-m", "tune.search", "--dataset", str(data), *SEARCH]
    return subprocess.Popen(
        [*command, "--output", str(output), *resume, *options],
        start_new_session=True,  # so that it can be killed with all that it has started
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _records(output: Path) -> dict[str, int]:
    """Return when each record of a finished trial was written."""
    return {path.name: path.stat().st_mtime_ns for path in (output / "trials").glob("*.json")}


def same_table(undisturbed: Path, output: Path) -> bool:
    """Whether two searches ended with the same table, to the byte."""
    return (undisturbed / "results.csv").read_bytes() == (output / "results.csv").read_bytes()


if __name__ == "__main__":
    sys.exit(main())
