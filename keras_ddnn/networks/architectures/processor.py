"""What this machine computes with."""

from functools import cache
from pathlib import Path

import tensorflow as tf

CPUINFO = Path("/proc/cpuinfo")


def processor() -> str:
    """Return what Linux says of the CPU, its maker and its flags; empty on other systems."""
    return CPUINFO.read_text() if CPUINFO.exists() else ""


@cache
def has_amx() -> bool:
    """Return whether networks compute on a CPU with Intel's matrix units, and not on a GPU."""
    return "amx_bf16" in processor() and not tf.config.list_physical_devices("GPU")
