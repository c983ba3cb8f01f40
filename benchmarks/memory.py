"""What a training, its capture, the default head and the report take in memory as data grow.

    python -m benchmarks.memory --before COMMIT --output results/memory

Ten classes of noise, brighter the higher the class, in one `.npy` file a size. `now` maps it;
`before`, a commit at which arrays had to be in memory, loads it. Each run is a process of its own.
Counted is the anonymous memory (RssAnon) of it and of its children, at its most: pages of a mapped
file can be dropped at any time and are not in it. Growth is that over the fewest images.

The table has a row a run: `version`, `images` (of training; a tenth more each for validation and
test), `side`, `growth_mib`, `bank_mb` (of the training images, as a file), `images_per_s` (of the
last epoch).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CLASSES, BLOCK = 10, 500
COLUMNS = ("version", "images", "side", "growth_mib", "bank_mb", "images_per_s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[2_000, 20_000, 60_000])
    parser.add_argument("--images-before", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--before", metavar="COMMIT", help="also measure this commit")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--output", type=Path, help="folder of table.csv")
    parser.add_argument("--scratch", type=Path, help="folder of the images; a temporary one")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)  # one of them, in this process
    options = parser.parse_args()
    if options.run:
        print(json.dumps(_run(*options.run, options.preset, options.epochs)))
        return

    rows = []
    with ExitStack() as stack:
        scratch = options.scratch or stack.enter_context(tempfile.TemporaryDirectory())
        trees = {"now": ROOT}
        if options.before:
            trees["before"] = stack.enter_context(_worktree(options.before))
        for version, tree in trees.items():
            least = None
            counts = options.images if version == "now" else options.images_before
            for images in sorted(counts):
                file = _data(Path(scratch), images, options.side)
                arguments = [version, str(file), str(images), str(scratch)]
                flags = ["--preset", options.preset, "--epochs", str(options.epochs)]
                peak, found = _measured(tree, ["--run", *arguments, *flags])
                least = peak if least is None else least
                found |= {"version": version, "images": images, "side": options.side}
                found["growth_mib"] = round((peak - least) / 2**20, 1)
                rows.append(",".join(str(found[column]) for column in COLUMNS))
                print(rows[-1], f"# peak {peak / 2**20:,.0f} MiB", flush=True)
                if images not in options.images[-1:]:
                    file.unlink()
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "table.csv").write_text("\n".join([",".join(COLUMNS), *rows, ""]))


def _worktree(commit: str):
    """Return a context of a folder with the files of a commit."""
    folder = tempfile.TemporaryDirectory()
    archive = subprocess.run(
        ["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    subprocess.run(["tar", "-x", "-C", folder.name], input=archive, check=True)
    return folder


def _data(folder: Path, images: int, side: int) -> Path:
    """Write noise for training, validation and test, and return its file."""
    path, count = folder / f"{images}x{side}.npy", images + 2 * (images // 10)
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (count, side, side, 3))
    for start in range(0, count, BLOCK):
        rows = array[start : start + BLOCK]
        labels = (start + np.arange(len(rows))) % CLASSES
        rows[:] = rng.integers(0, 100, rows.shape, np.uint8) + 15 * labels[:, None, None, None]
    array.flush()
    return path


def _measured(tree: Path, arguments: list[str]) -> tuple[int, dict]:
    """Run this file with the package of a tree; return its peak in bytes and what it printed."""
    import psutil

    environment = os.environ | {"PYTHONPATH": str(tree)}
    # Not with this folder on the path: it has modules named as others that pandas looks for.
    command = [sys.executable, "-P", str(Path(__file__).resolve()), *arguments]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, cwd=tree, env=environment, stdout=out)
        peak, root = 0, psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):
                tree_of = [root, *root.children(recursive=True)]
                peak = max(peak, sum(_anonymous(one.pid) for one in tree_of))
            time.sleep(0.05)
        out.seek(0)
        lines = out.read().splitlines()
    if process.returncode:  # most likely there was too little memory
        print(f"a run ended with {process.returncode}", file=sys.stderr)
        return peak, {"bank_mb": "", "images_per_s": ""}
    return peak, json.loads(lines[-1])


def _anonymous(pid: int) -> int:
    """Return the RssAnon of a process, in bytes."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    return 0


def _run(version: str, file: str, images: str, scratch: str, preset: str, epochs: int) -> dict:
    """Train, capture, fit the default head and report; return the rate and the bank's size."""
    import keras

    from keras_ddnn.data.datasets import Split
    from keras_ddnn.heads.fit import fit_head
    from keras_ddnn.pipeline import make_report
    from keras_ddnn.training.fit import fit_ddnn

    array, n = np.load(file, mmap_mode="r" if version == "now" else None), int(images)
    labels = np.arange(len(array)) % CLASSES
    bounds = (0, n, n + n // 10, n + 2 * (n // 10))
    train, val, test = (Split(array[a:b], labels[a:b]) for a, b in pairwise(bounds))
    begun, seconds = [0.0], []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begun.append(time.perf_counter()),
        on_train_batch_end=lambda batch, logs: seconds.append(time.perf_counter()),
    )
    fitted = fit_ddnn(train, val, preset, epochs=epochs, callbacks=[clock], verbose=0)
    head = fit_head(fitted, verbose=0)
    test_bank = fitted.capture(test)
    banks = fitted.val_bank, test_bank
    make_report("noise", fitted.cascade, fitted.config, {"head": head}, *banks, 0.5)
    path = Path(scratch) / "bank.npz"
    fitted.bank.save(path)
    megabytes = path.stat().st_size / 1e6
    path.unlink()
    last = [begun[-1], *(moment for moment in seconds if moment > begun[-1])]
    last = last[1:] if len(last) > 2 else last  # the first step of a run is traced
    rate = fitted.config.batch_size * (len(last) - 1) / (last[-1] - last[0])
    return {"bank_mb": round(megabytes, 1), "images_per_s": round(rate)}


if __name__ == "__main__":
    main()
