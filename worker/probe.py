"""Finds and measures the device layers are computed on: `python -m worker.probe auto` prints it as JSON."""

import os
import sys

import torch

from srr_core.pipeline import operations_per_second
from srr_core.pipeline.plan import choose_device
from worker.machine import Device

_NICENESS = 10
"""A job that starts at the same time goes first."""


def measure(name: str) -> Device:
    """Return the device that a setting stands for. Raises RecipeError when it is not there."""
    device = choose_device(name)
    is_gpu = device.type == "cuda"
    return Device(
        device=torch.cuda.get_device_name(device) if is_gpu else device.type,
        device_memory_bytes=torch.cuda.get_device_properties(device).total_memory if is_gpu else None,
        operations_per_second=operations_per_second(device),
    )


if __name__ == "__main__":
    os.nice(_NICENESS)
    sys.stdout.write(measure(sys.argv[1]).model_dump_json())
