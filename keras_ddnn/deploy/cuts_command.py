"""Where to cut? `python -m keras_ddnn.cuts MODEL` says what each cut of a model costs.

    python -m keras_ddnn.cuts MobileNetV2 --input-shape 96 96 3 --classes 10 \\
        --device-gmacs 2 --cloud-gmacs 100 --bandwidth-mbps 10 --round-trip-ms 40
"""

import argparse
import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from keras_ddnn.evaluation.cut_latency import (
    ENDS,
    SENT_AS,
    CutLatency,
    Machines,
    cut_latencies,
    read_rate,
)
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.files.notices import (
    CommandParser,
    add_forms,
    count,
    not_negative,
    positive,
    said_as,
    tell_error,
    tell_result,
)
from keras_ddnn.files.quiet import import_tensorflow

UNKNOWN = "unknown"
BITS = (32, 8)  # of a weight and of a value of an activation, on the device


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 2 after one line on standard error for bad input."""
    options = _parser().parse_args(arguments)
    with said_as(options):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        rows, said = _computed(options)
        if options.csv:
            _write_csv(rows, options.csv)
        if options.figure:
            _draw(rows, options.figure)
    except (OSError, ValueError) as error:
        tell_error(error)
        return 2
    _show(rows, options.model)
    *notes, last = said
    print(*notes, sep="\n")
    tell_result(last, {"model": options.model, "cuts": [*map(asdict, rows)], "notes": said})
    return 0


def _computed(options: argparse.Namespace) -> tuple[list[CutLatency], list[str]]:
    """Return the table, and what is said below it."""
    machines = machines_of(options)
    # Imported only now, so that --help and a misspelt option answer at once.
    from keras_ddnn.evaluation.payload import mean_png_bytes

    import_tensorflow()
    from keras_ddnn.networks.architectures.named_models import named_model
    from keras_ddnn.networks.costs.model_costs import cut_costs, unknown_layers

    model = named_model(options.model, options.input_shape, options.classes, options.seed)
    costs = cut_costs(model, options.input_shape, options.device_bits // 8)
    said, png = [], None
    if options.images:
        shape = options.input_shape or model.inputs[0].shape[1:]
        if len(shape) != 3 or None in shape:
            raise ValueError(f"--images needs inputs (height, width, channels); received {shape}")
        png, count = mean_png_bytes(options.images, shape)
        said.append(f"as PNG: the mean of {count} images of {'×'.join(map(str, shape))}")
    rows = cut_latencies(costs, machines, options.local_fraction, options.sent_as, png)
    said += [
        f"{machines}; features sent as {options.sent_as}; times go with multiply-adds",
        "kept: device and exit; offloaded: device, exit, transfer, round trip and cloud; mean: at "
        f"a local fraction of {options.local_fraction:g}",
        "exit: one dense layer behind pooling, or the one that the model has; it is not in the "
        "parameters and activations",
        f"on the device a weight and a value take {options.device_bits} bits; peak: tensors that "
        "are kept at one time, layer by layer; layers without multiply-adds that keep the size "
        "work in place",
        "*: Pareto-optimal in device multiply-adds, bytes sent and latency offloaded "
        "(Neurosurgeon, 2017; SPINN, 2020)",
    ]
    if left_out := [row.layer for row in rows if row.pareto is None]:
        causes = unknown_layers(model, options.input_shape)
        why = f"of {causes[0]} are unknown" if causes else "or sizes are unknown"
        said.append(
            f"left out of the Pareto set: {len(left_out)} rows, since the multiply-adds {why}; "
            "give a layer a method multiply_adds(), an open size --input-shape"
        )
    return rows, [*said, *_best(rows)]


def _best(rows: Sequence[CutLatency]) -> list[str]:
    """Say which cut is the fastest, and what not to cut would take."""
    timed = [row for row in rows if row.mean_ms is not None]
    cuts = [row for row in timed if row.layer not in ENDS]
    if not cuts:
        return []
    best = min(cuts, key=lambda row: row.mean_ms)
    others = [f"{row.layer} {row.mean_ms:.4g} ms" for row in timed if row.layer in ENDS]
    return [
        f"least mean latency: cut behind {best.layer}, {best.mean_ms:.4g} ms; {', '.join(others)}"
    ]


def _show(rows: Sequence[CutLatency], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption_justify="left", padding=(0, 1))
    table.add_column("cut behind", no_wrap=True)
    for _, heading in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.layer, *(cell(row) for cell, _ in COLUMNS))
    # A line that a narrow terminal breaks is better than digits that are left out.
    needed = Console(width=1000).measure(table).maximum
    Console(width=max(Console().width, needed)).print(table)


def _number(name: str, unit: float, digits: int) -> Callable[[CutLatency], str]:
    def cell(row: CutLatency) -> str:
        value = getattr(row, name)
        never = name == "kept_ms" and value is None and row.offloaded_ms is not None
        if never:
            return "–"  # all samples are sent
        if value is None:
            return UNKNOWN
        small = 0 < value / unit < 10**-digits
        return f"{value / unit:.1g}" if small else f"{value / unit:,.{digits}f}"

    return cell


COLUMNS: tuple[tuple[Callable[[CutLatency], str], str], ...] = (
    (_number("device_multiply_adds", 1e6, 2), "device\nMMAC"),
    (_number("exit_multiply_adds", 1e6, 3), "exit\nMMAC"),
    (_number("parameter_bytes", 1e3, 1), "parameters\nkB"),
    (_number("peak_activation_bytes", 1e3, 1), "peak act.\nkB"),
    (_number("float16_bytes", 1e3, 2), "float16\nkB"),
    (_number("int8_bytes", 1e3, 2), "8-bit\nkB"),
    (_number("kept_ms", 1, 2), "kept\nms"),
    (_number("offloaded_ms", 1, 2), "offloaded\nms"),
    (_number("mean_ms", 1, 2), "mean\nms"),
    (lambda row: "*" if row.pareto else "", "*"),
)


def _write_csv(rows: Sequence[CutLatency], path: Path) -> None:
    file = io.StringIO()
    writer = csv.DictWriter(file, [field.name for field in fields(CutLatency)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, rows))  # None is an empty cell
    with replacing_file(path) as target:
        target.write(file.getvalue().encode())


def _draw(rows: Sequence[CutLatency], path: Path) -> None:
    import pandas as pd

    from figures.cuts import draw

    draw(pd.DataFrame(map(asdict, rows))).savefig(path)


def add_machines(
    parser: argparse._ActionsContainer, defaults: Mapping[str, float] | None = None
) -> None:
    """Add the options that `machines_of` reads to a parser or a group of its options.

    Args:
        parser: What gets them.
        defaults: Name of an option, as "cloud_gmacs" → its default; one without must be given.
    """

    defaults = defaults or {}

    def number(group: argparse._ActionsContainer, name: str, kind: Callable, says: str) -> None:
        default = defaults.get(name)
        required = {} if group is device else {"required": default is None}
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, type=kind, default=default, help=says, **required)

    device = parser.add_mutually_exclusive_group(required="device_gmacs" not in defaults)
    unit = "10^9 multiply-adds per second"
    number(device, "device_gmacs", positive, f"{unit} of the device")
    device.add_argument(
        "--rate", type=Path, metavar="FILE", help="what `serve.edge --benchmark` has measured"
    )
    number(parser, "cloud_gmacs", positive, f"{unit} of the cloud")
    number(parser, "bandwidth_mbps", positive, "10^6 bits per second of the line")
    number(parser, "round_trip_ms", not_negative, "of the line")


def machines_of(options: argparse.Namespace) -> Machines:
    """Return the machines that options describe; see `add_machines`.

    Raises:
        ValueError: If the file of a rate holds none.
    """
    return Machines(
        device_rate=read_rate(options.rate) if options.rate else 1e9 * options.device_gmacs,
        cloud_rate=1e9 * options.cloud_gmacs,
        bytes_per_second=1e6 / 8 * options.bandwidth_mbps,
        round_trip_s=options.round_trip_ms / 1e3,
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m keras_ddnn.cuts",
        description="Say, for each layer at which a model can be cut, what the device computes, "
        "what travels, and how long a sample takes.",
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="package.module:function, a .keras file, a model of keras.applications, or paper",
    )
    add("--input-shape", type=count, nargs="+", metavar="N", help="of one sample, as 96 96 3")
    add("--classes", type=count, help="of a model that is known by its name")
    add_machines(parser)
    add("--local-fraction", type=float, default=0.5, help="answered by the device (%(default)s)")
    add("--sent-as", choices=SENT_AS, default=SENT_AS[0], help="form of features (%(default)s)")
    add("--device-bits", type=int, choices=BITS, default=BITS[0], help="of a value (%(default)s)")
    add("--images", type=Path, metavar="FOLDER", help="whose mean size as PNG is a row too")
    add("--figure", type=Path, metavar="FILE", help="draw all cuts")
    add("--csv", type=Path, metavar="FILE", help="write the table, in bytes and milliseconds")
    add("--seed", type=int, default=0, help="set before a function makes the model (%(default)s)")
    add_forms(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
