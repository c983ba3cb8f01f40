"""What a cut of a model costs a sample in time, given two machines and the line between them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from keras_ddnn.files.checks import require_choice, require_fraction, require_positive

CLOUD_ONLY, DEVICE_ONLY = "cloud only", "device only"  # beside the layers of a model
AS_PNG = "cloud only, as PNG"
ENDS = (CLOUD_ONLY, AS_PNG, DEVICE_ONLY)
SENT_AS = ("float16", "int8")
RATE = "multiply_adds_per_second"  # of a device, in the file of `serve.edge --benchmark`


@dataclass(frozen=True)
class CutCosts:
    """What it takes to cut a model at a layer; None is what is not known.

    Attributes:
        layer: Name of the layer whose output travels; `CLOUD_ONLY` if the input does, and
            `DEVICE_ONLY` if nothing does.
        device_multiply_adds: Multiply-adds of the device up to the layer, without an exit.
        exit_multiply_adds: Multiply-adds of the device's own classifier behind the layer.
        cloud_multiply_adds: Multiply-adds of the rest.
        parameter_bytes: Bytes of the weights up to the layer, with those of normalisation.
        peak_activation_bytes: The most that tensors take which must be kept at one time.
        float16_bytes: Of what travels, in float16; of an input, as it is.
        int8_bytes: Of what travels, in codes of eight bits; of an input, as it is.
    """

    layer: str
    device_multiply_adds: int | None
    exit_multiply_adds: int | None
    cloud_multiply_adds: int | None
    parameter_bytes: int
    peak_activation_bytes: int | None
    float16_bytes: float | None
    int8_bytes: float | None


@dataclass(frozen=True)
class Machines:
    """A device, a cloud and the line between them; a machine's time goes with its multiply-adds.

    Attributes:
        device_rate: Multiply-adds of the device per second.
        cloud_rate: Multiply-adds of the cloud per second.
        bytes_per_second: Rate of the line.
        round_trip_s: Round trip of the line in seconds, 0 or more.
    """

    device_rate: float
    cloud_rate: float
    bytes_per_second: float
    round_trip_s: float

    def __post_init__(self):
        values = asdict(self)
        if self.round_trip_s == 0:
            del values["round_trip_s"]
        require_positive(**values)

    def latencies_ms(self, device: float, cloud: float, sent: float) -> tuple[float, float]:
        """Return how long a sample takes that the device answers, and one that the cloud does.

        Args:
            device, cloud: Multiply-adds of each; the device's with those of its exit and its rule.
            sent: Bytes that travel.
        """
        kept = 1e3 * device / self.device_rate
        line = sent / self.bytes_per_second + self.round_trip_s
        return kept, kept + 1e3 * (line + cloud / self.cloud_rate)

    def __str__(self) -> str:
        return (
            f"device {self.device_rate / 1e9:.4g} and cloud {self.cloud_rate / 1e9:g} GMAC/s, "
            f"{8e-6 * self.bytes_per_second:g} Mbit/s, round trip {1e3 * self.round_trip_s:g} ms"
        )


@dataclass(frozen=True)
class CutLatency(CutCosts):
    """A cut with its latencies, in milliseconds; None is what is not known or does not happen.

    Attributes:
        sent_bytes: Bytes of an offloaded sample, in the form that was asked for.
        kept_ms: Latency of a sample that the device answers: up to the layer, and the exit.
        offloaded_ms: Latency of a sample that the cloud answers: the same, as the exit decides;
            then the transfer, the round trip and the rest of the model.
        mean_ms: Mean latency of both, at the local fraction.
        pareto: Whether no other cut is at least as good in device multiply-adds, bytes sent and
            latency offloaded, and better in one; None where one of them is not known.
    """

    sent_bytes: float | None = None
    kept_ms: float | None = None
    offloaded_ms: float | None = None
    mean_ms: float | None = None
    pareto: bool | None = None

    @property
    def compared(self) -> tuple[float, float, float] | None:
        """What the Pareto set is about: lower is better in each; None if one is not known."""
        device, sent, latency = self.device_multiply_adds, self.sent_bytes, self.offloaded_ms
        if device is None or sent is None or latency is None:
            return None
        return device, sent, latency


def cut_latencies(
    costs: Sequence[CutCosts],
    machines: Machines,
    local_fraction: float = 0.5,
    sent_as: str = "float16",
    png_bytes: float | None = None,
) -> list[CutLatency]:
    """Return what each cut costs in time, and which cuts are Pareto-optimal.

    Sources: Kang et al., "Neurosurgeon", 2017, choose the cut of least latency; Laskaridis et al.,
    "SPINN", 2020, add exits, and choose among cuts by several costs.

    Args:
        costs: See `model_costs.cut_costs`.
        machines: What runs them.
        local_fraction: Share of the samples that the device answers, in [0, 1].
        sent_as: One of `SENT_AS`.
        png_bytes: Mean bytes of an input as PNG; if given, there is a row for it.

    Raises:
        ValueError: If an argument lies outside its range.
    """
    require_fraction("local_fraction", local_fraction)
    require_choice("form", sent_as, SENT_AS)
    rows = []
    for cost in costs:
        rows.append(_timed(cost, machines, local_fraction, sent_as))
        if cost.layer == CLOUD_ONLY and png_bytes is not None:
            png = replace(cost, layer=AS_PNG, float16_bytes=png_bytes, int8_bytes=png_bytes)
            rows.append(_timed(png, machines, local_fraction, sent_as))
    known = [own for row in rows if (own := row.compared)]
    return [
        replace(row, pareto=not dominated(own, known)) if (own := row.compared) else row
        for row in rows
    ]


def _timed(cost: CutCosts, machines: Machines, local_fraction: float, sent_as: str) -> CutLatency:
    sent = cost.float16_bytes if sent_as == "float16" else cost.int8_bytes
    row = CutLatency(**asdict(cost), sent_bytes=sent)
    device, exit, cloud = (
        cost.device_multiply_adds,
        cost.exit_multiply_adds,
        cost.cloud_multiply_adds,
    )
    if device is None or exit is None or cloud is None or sent is None:
        return row
    kept, offloaded = machines.latencies_ms(device + exit, cloud, sent)
    if cost.layer == DEVICE_ONLY:
        return replace(row, kept_ms=kept, offloaded_ms=kept, mean_ms=kept)
    if cost.layer in (CLOUD_ONLY, AS_PNG):  # nobody decides: all samples are sent
        return replace(row, offloaded_ms=offloaded, mean_ms=offloaded)
    mean = local_fraction * kept + (1 - local_fraction) * offloaded
    return replace(row, kept_ms=kept, offloaded_ms=offloaded, mean_ms=mean)


def dominated(costs: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Return whether others hold what is no worse in any cost, lower is better, and not equal."""
    return any(
        other != costs and all(theirs <= ours for theirs, ours in zip(other, costs))
        for other in others
    )


def read_rate(path: str | Path) -> float:
    """Return the multiply-adds per second that `serve.edge --benchmark` has measured.

    Raises:
        ValueError: If the file cannot be read, or holds no such number.
    """
    try:
        rate = json.loads(Path(path).read_text())[RATE]
        require_positive(**{RATE: rate})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the file of `serve.edge --benchmark`, with {RATE} above 0; received "
            f"{type(error).__name__}: {error}"
        ) from error
    return float(rate)
