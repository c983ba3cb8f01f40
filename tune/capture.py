"""The outputs of a trained DDNN on a large data set, by many workers: `python -m tune.capture RUN`.

Shards are plain Ray tasks, not a pipeline of Ray Data. Rows are by index already, and those of a
file travel by its name. Ray Data would copy their pixels into its blocks, cut batches where blocks
end, so that results differ in the last bits, and know nothing of shards that are there.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from keras_ddnn.data.classes import Classes, labels_of
from keras_ddnn.data.datasets import DATASET_HELP, DATASETS, load, read_split
from keras_ddnn.data.rows.images import chosen_reading
from keras_ddnn.data.rows.view import taken
from keras_ddnn.data.splits import InputType, Split, Splits
from keras_ddnn.files.atomic import require_writable
from keras_ddnn.files.checks import expect, require_count
from keras_ddnn.files.checksums import sha256
from keras_ddnn.files.manifest import MANIFEST, artifact_of, read_manifest
from keras_ddnn.files.notices import CommandParser, add_forms, progress_bar, said_as, tell_result
from tune import cluster
from tune.failures import run_command
from tune.output import alone_in
from tune.reading import add_reading, reading_of
from tune.shards import Job, ShardedBank, Source, captured, default_rows, verify

SPLITS = ("train", "val", "test")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code, see `tune.failures.run_command`."""
    options = _parser().parse_args(arguments)
    go_on = "run the same command again to go on"
    with said_as(options):
        return run_command(partial(_run, options), go_on, traceback=options.traceback)


def _run(options: argparse.Namespace) -> None:
    if options.num_cpus is not None:
        require_count(num_cpus=options.num_cpus)
    folder, output = (Path(p).absolute() for p in (artifact_of(options.run), options.output))
    inside = output.resolve().is_relative_to(folder.resolve())
    expect(not inside, "--output", "a folder outside of the artefact", output)
    manifest = read_manifest(folder, options.verify_key)
    splits = _load(options, manifest)
    split = _as_read(splits, options.split, manifest)
    row_bytes = prod(split.images.shape[1:]) * split.images.dtype.itemsize
    rows = default_rows(row_bytes) if options.shard_rows is None else options.shard_rows
    artifact = sha256(folder / MANIFEST)
    source = Source(artifact, splits.fingerprint(), options.split, len(split), rows)
    require_writable(output)
    with alone_in(output, "capture"):
        bank = ShardedBank.begun(output, source)
        missing = bank.missing()
        jobs = (
            Job(name, folder, artifact, taken(split.images, part), split.labels[part])
            for name, part in missing.items()
        )
        if missing:
            try:
                cluster.start(options.address, options.num_cpus)
                cluster.in_worker(verify, folder, artifact)
                for name, outputs in _with_progress(by_workers(jobs), bank, missing):
                    bank.write(name, outputs, split.labels)
            finally:
                cluster.stop()
    count = len(source.shards)
    there = count - len(missing)
    said = f"{len(split):,} {options.split} samples are in {output}: {count} shards, of which "
    content = {"split": options.split, "samples": len(split), "shards": count, "kept": there}
    tell_result(f"{said}{there} were there", content | {"output": output})


def by_workers(jobs: Iterable[Job]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the name of each shard and what `captured` returns for it, as Ray workers end.

    One more is asked for than there are cores, so that inputs in memory are not all copied at
    once. What a lost worker was computing is computed again.

    Raises:
        RuntimeError: If a Ray of our own starts nothing.
    """
    import ray
    from ray.util.queue import Queue

    begun = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": cluster.here()})
    cluster.bounded_get(begun.actor.__ray_ready__.remote())
    hosts = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = sum(int(host.get("CPU", 0)) for host in hosts)
    # A thread each, however few shards there are: more of them would sum in another order.
    task = ray.remote(**cluster.resources_of(max(1, cores), hosts))(captured)
    jobs, running, started = iter(jobs), {}, set()
    watch = cluster.Watch("shard")
    while True:
        for job in islice(jobs, cores + 1 - len(running)):
            running[task.remote(job, begun.put)] = job.name
        if not running:
            return
        done, _ = ray.wait([*running], timeout=0.5)
        while not begun.empty():
            started.add(begun.get())
        watch.look(bool(done) or not started.isdisjoint(running.values()))
        for result in done:
            yield running.pop(result), ray.get(result)


def _with_progress(
    results: Iterable[tuple[str, Any]], bank: ShardedBank, missing: dict[str, slice]
) -> Iterator[tuple[str, Any]]:
    """Yield what is given, and show on a terminal how many samples have been."""
    here = sum(rows.stop - rows.start for rows in missing.values())
    total = bank.source.rows
    bar = progress_bar(desc="capture", total=total, initial=total - here, unit=" samples")
    with bar:
        for name, outputs in results:
            yield name, outputs
            bar.update(missing[name].stop - missing[name].start)


def _load(options: argparse.Namespace, manifest: dict[str, Any]) -> Splits:
    """Load the data set with the channels that a network reads.

    Where image files are not read as the training images were, that is said.
    """
    reads = InputType(tuple(manifest["input_shape"]), manifest["input_dtype"])
    received = f"an artefact that reads {reads.dtype} {reads.shape}; use keras_ddnn's capture"
    expect(reads.is_image, "tune.capture", "a network of images", received)
    reading = reading_of(options) | {"channels": reads.shape[-1]}
    splits = load(options.dataset, options.data_dir, options.data_seed, **reading)
    shape = splits.train.images.shape[1:]
    wanted = f"{reads.shape}, which the artefact reads"
    size = "x".join(map(str, reads.shape[:2]))
    expect(
        shape == reads.shape,
        f"images of {options.dataset}",
        f"shape {wanted}",
        f"{shape}: image files get it by --image-size {size}",
    )
    if splits.reading is not None:
        chosen_reading(splits.reading, manifest.get("reading"))
    return splits


def _as_read(splits: Splits, what: str, manifest: dict[str, Any]) -> Split:
    """Return a split whose labels are the class numbers of a network.

    Raises:
        ValueError: If a label is none of its classes, or a number means another class.
    """
    classes, called = labels_of(manifest), tuple(manifest["class_names"])
    names = splits.class_names
    nameless = [Classes.numbered(len(those)).names for those in (names, called)]
    if classes.are_numbers and names not in nameless and called not in nameless:
        # A folder of other classes has the same numbers.
        wanted = f"those of the artefact, {', '.join(called)}"
        expect(names == called[: len(names)], f"classes of {splits.name}", wanted, ", ".join(names))
    return read_split(getattr(splits, what), classes, what)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m tune.capture",
        description="Run the network of an artefact over a data set, in shards, by Ray workers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        argument_default=None,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="output folder of a search, or an artefact")
    add("--output", default="runs/bank", help="folder of the shards; gone on with if it is there")
    add("--shard-rows", type=int, help="samples of a shard, a multiple of 500; default: 256 MB")
    add("--verify-key", metavar="KEY", help="PEM file of the public key that signed the artefact")
    add("--traceback", action="store_true", help="where an error comes from, instead of one line")

    group = parser.add_argument_group("data")
    add = group.add_argument
    add("--dataset", required=True, help=f"{', '.join(DATASETS)}, {DATASET_HELP}")
    add("--split", choices=SPLITS, default="val", help="which part of it")
    add_reading(group)
    add("--data-seed", type=int, default=0, help="of splits that are drawn and of generated data")

    group = parser.add_argument_group("workers")
    add = group.add_argument
    add("--address", help="of a running Ray cluster; default: Ray on this machine")
    add("--num-cpus", type=int, help="cores of the local Ray; default: all")
    add_forms(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
