"""Real lines that the tests take beside the pretend ones: what stands in hil/bench.yaml.

    lines:
      riser:
        link: {driver: modbus-rtu, port: /dev/serial/by-id/usb-…, baudrate: 9600}
        devices: {"7": eastron-sdm120}         # address and profile of what hangs on it
        empty: "99"                            # an address at which nobody is

Without that file there are none. GARDIEN_BENCH names another file. Nothing is written to a device.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

HERE = Path(__file__).with_name("bench.yaml")


class BenchLine(BaseModel):
    """One line, and what is known to hang on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    link: dict[str, Any]
    """as under `links:` of the configuration"""
    devices: dict[str, str]
    """by address: the profile"""
    empty: str


class _Bench(BaseModel):
    model_config = ConfigDict(extra="forbid")

    lines: dict[str, BenchLine]


def bench() -> dict[str, BenchLine]:
    """The lines of the bench, by name. Raises ValueError on a file that says something else."""
    path = Path(os.environ.get("GARDIEN_BENCH") or HERE)
    if not path.exists():
        return {}
    said = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return _Bench.model_validate(said).lines
