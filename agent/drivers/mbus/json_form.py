"""A telegram as one line of JSON, with all digits of its numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.drivers.mbus.telegram import MeterValue, Telegram

HEADER = ("manufacturer", "id", "version", "medium", "access", "status")


def dumps(telegram: Telegram) -> str:
    """`{"ok": true, "manufacturer": …, "records": […]}`; numbers are exact decimals."""
    header = {name: getattr(telegram, name) for name in HEADER}
    return _object(
        {
            "ok": True,
            **header,
            "address": telegram.address,
            "more": telegram.more,
            "encrypted": telegram.encrypted or None,
            "records": [_record(record) for record in telegram.records],
        }
    )


def refusal(error: str) -> str:
    """The line for bytes that are not a telegram."""
    return _object({"ok": False, "error": error})


def _record(record: MeterValue) -> dict[str, object]:
    """`unit` is that of the VIF. If VIFEs change the unit of the value, `value_unit` gives it."""
    members: dict[str, object] = {
        "function": record.function,
        "storage": record.storage,
        "tariff": record.tariff,
        "subunit": record.subunit,
        "quantity": record.quantity,
        "unit": record.vif_unit,
        "value": record.value,
        "error": record.error,
        "modifiers": list(record.modifiers),
        "dib": record.dib.hex(),
        "vib": record.vib.hex(),
        "data": record.data.hex(),
    }
    if record.unit != record.vif_unit:
        members["value_unit"] = record.unit
    return members


def _object(members: dict[str, object]) -> str:
    return "{" + ", ".join(f"{json.dumps(k)}: {_value(v)}" for k, v in members.items()) + "}"


def _value(item: object) -> str:
    if isinstance(item, Decimal):
        return format(item, "f")
    if isinstance(item, dict):
        return _object(item)
    if isinstance(item, list):
        return f"[{', '.join(map(_value, item))}]"
    return json.dumps(item, ensure_ascii=False)
