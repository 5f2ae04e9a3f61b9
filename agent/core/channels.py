"""The table of channels, loaded from `channels.yaml`. Profiles, drivers and batches share it."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from agent.core.model import Channel, ValueKind

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def _rows() -> Mapping[str, dict[str, object]]:
    text = Path(__file__).with_name("channels.yaml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, object]] = YAML(typ="safe", pure=True).load(text)
    return rows


def _number(written: object) -> Decimal | None:
    return None if written is None else Decimal(str(written))


@cache
def channels() -> Mapping[str, Channel]:
    """Return every channel by name."""
    return MappingProxyType(
        {
            name: Channel(
                name=name,
                kind=ValueKind(str(row["kind"])),
                unit=str(row["unit"]),
                obis=str(row["obis"]) if "obis" in row else None,
                personal=bool(row["personal"]),
                least=_number(row.get("least")),
                most=_number(row.get("most")),
                jump=_number(row.get("jump")),
                en=None if row.get("en") is None else str(row["en"]),
                fr=None if row.get("fr") is None else str(row["fr"]),
                still=float(str(row["still"])) * 3600 if "still" in row else None,
            )
            for name, row in _rows().items()
        }
    )


@cache
def channel_of_quantity() -> Mapping[str, str]:
    """Return the name of the channel for each quantity that device profiles name."""
    return MappingProxyType(
        {
            str(quantity): name
            for name, row in _rows().items()
            for quantity in row.get("quantities", [])  # type: ignore[attr-defined]
        }
    )
