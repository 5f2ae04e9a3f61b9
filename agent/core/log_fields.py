"""The fields that a log record carries to the systemd journal beside its text.

A field holds a name from the configuration, a number or a code. It never holds a place, an
occupancy, a person or a measured value.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    from agent.core.model import BatchId


class LogEvent(StrEnum):
    """Kinds of events; each value is the event's `MESSAGE_ID` and never changes.

    docs/log.md lists them. packaging/gardien.catalog explains them for `journalctl -x`.
    """

    STOPPING = "599040ca582645f7bfa5b48b6a2cba9b"
    STATE_BUSY = "4ba399bcf1884baeb33d1205d2b081e8"
    LOCK_LOST = "eebace12e7014a6aba3a2a017a2e8ed3"
    RELOADED = "0b1e2c05c07e4a599bf67de7d427ecfd"
    RELOAD_REFUSED = "ead16f14cd8d4dfab6ae21376d339538"
    COMPONENT_FAILED = "75d695278ceb472c9da1f21de1ac819e"
    COMPONENT_RECOVERED = "0350d58243c947cbb8a945c7c6937b74"
    COMPONENT_HANGS = "df5f0d7deb72477fbbf14c8147f03c8c"

    LINE_LOST = "f434a4c7f69b4437b0059eef5e06190f"
    LINE_RESTORED = "df847dc8653040979464c2eef9832ba4"
    DEVICE_SILENT = "aa961c823e69452b9613a43a797318eb"
    DEVICE_ANSWERS = "ca46e06607184548b5abdd18fbae51fb"
    METER_IDENTIFIED = "4eb192387b7240a696a5124d79cb9776"
    METER_MISMATCH = "546c65f1f5364346ab3ddf8068ff7c97"
    REPLACEMENT_FOUND = "a3984b3a816b4c6881d302a57596e16d"

    UPLINK_LOST = "e6c4d6d83d87487b913e80f5d4566dc2"
    UPLINK_RESTORED = "ec9686f4350c449eb9d3ea5f1b1c33e5"
    UPLINK_MOVED = "6e3be26d82894812a75295e6fbff4f4e"
    UPLINK_NOT_MOVED = "66bd85b0999f4b18b613836e3fdee34b"
    DELIVERY_DELAYED = "e4e358d644a64efdb75ad8794b843314"
    DELIVERY_ALARM = "6a3f08dc81a449ce93cf2a17712d373c"
    BATCH_QUARANTINED = "cca3afdda6eb43d6a4946b1d25a73b36"
    BATCH_SPLIT = "8d8a97d1af174c0fb74ed22291eea9ef"
    EPOCH_BEGUN = "806188ae269849e697fa669e5520db83"
    INPUT_UNUSABLE = "b0da855ed0fa4423959cefbc002f0430"

    STORE_FAILED = "933d6f2085b74d118e4e01e6d93d61a3"
    STORE_RECOVERED = "1b069bf0dab848bd8e7597f74d740d70"
    STORE_DAMAGED = "6e93c81ea2f545258300b2c85c4220c4"
    STORE_FULL = "716dc9e617894ca1a7247c2f1c2b736e"
    RECORD_NOT_WRITTEN = "bc163c58e1564e739f9fa360674eceed"
    BACKUP_OUTDATED = "b79a68fd665c4dfea3093300d6c6d095"
    BACKUP_NOT_TAKEN = "3c79a566e20944c896f0667a874c543c"

    RELEASE_PENDING = "bf508a8df1644858958e6f27e17c958a"
    ORDER_FAILED = "a0eb2f301d064daabc3afc023656d4c6"
    VALUE_NOT_OURS = "e7c9717c8e7940ccad34dd63b9f56591"
    FAILSAFE_CHANGED = "613d48d0b4534ff191b156336f0c82c0"
    DISPLAY_FAILED = "eef7c2413a524ecea0e9412596e2d65e"

    CLOCK_STEPPED = "f88ef3b557fe4ceab0d3fe1db5c0817f"
    CLOCK_TRUST_CHANGED = "2cc082d439194423831dcdabed65a3d0"
    CLOCK_FLOOR_LOWERED = "dcded11c8d904a6d84a9255496e06ad9"
    CLOCK_CORRECTED = "76f53d0cd38c4397b81cbddcf18cb897"

    TRUST_LIST_CHANGED = "3d950da8630e4083833ec5e16735ddbc"
    OBJECT_REFUSED = "31690848964a45a5a59bf2d20d4c8b26"
    OBJECT_FAILED = "1144fb44172f4c758eff82be6d6e1109"
    OBJECT_DELAYED = "14b7266c076d4bb7a1414d5fd9255ecf"
    OBJECT_EXPIRED = "52086c9e4e4f43958bf40bedcdc9364d"
    AUDIT_CHAIN_FULL = "9ca31ba70d4b4eefb78cd0d42f336453"
    RESTORE_CHECKED = "0d44cf68df85452db3518b1cf6f7f861"

    CERTIFICATE_RENEWED = "b27fb469c98b4bb49b55eb6b64158f22"
    CERTIFICATE_PENDING = "d9d0fab06afb4c40a812c19b1fdcf9ac"
    CERTIFICATE_PROBLEM = "8e90c39f87554f7e950bd9b24a7d2e58"
    KEY_ROTATION = "c8d0d8a11764438491a0b33c1f754a55"
    KEY_ROTATION_WAITS = "17b3b355f73947108c828aee3ff19aae"

    EXPORT_RECORDED = "172b3c5041a447a7bad76c308679b219"
    EXPORT_REFUSED = "210aeae27b3a4948a84556086d2de17a"
    WITHDRAWAL_RECOVERED = "564d8b82c1034594afb6317240f77650"
    LOOK_NOT_RECORDED = "41ad3a1a961c421c9291b76861476294"
    PAGE_LOCKED = "10a38fdb289846f696b5c2ce20cecb11"
    PAGE_CODE_VOID = "7a5ab819b09b41bdb64fc01f3974b600"
    INDEX_WITHHELD = "cf72b3cad2a045e19781a6dbee1f2eb4"


class LogNames(TypedDict, total=False):
    """Fields of a record by their names in the code; in the journal they are in capitals."""

    device: str
    line: str
    uplink: str
    recipient: str
    control: str
    store: str
    """as `gardien status` names it, or the name of a file in the state directory"""
    component: str
    """as `gardien status` names it"""
    code: str
    """the code that the sender of a signed object gets (docs/authority.md)"""
    detail: str
    """a number or a word of gardien's own, such as an errno; never text of another program"""


FIELDS = ("MESSAGE_ID", "BATCH", *(name.upper() for name in LogNames.__annotations__))
"""the names of all fields in the journal"""


def fields(
    event: LogEvent | None = None, *, batch: BatchId | None = None, **names: Unpack[LogNames]
) -> dict[str, str]:
    """Return the `extra` of a log call: journal fields by name. An empty value makes no field."""
    extra = {name.upper(): str(value) for name, value in names.items() if value}
    if event is not None:
        extra["MESSAGE_ID"] = event.value
    if batch is not None:
        extra["BATCH"] = f"{batch.epoch}/{batch.seq}"
    return extra
