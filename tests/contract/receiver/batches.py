"""Batches as a gateway writes them, with little to state."""

import hashlib
import json
from datetime import UTC, datetime

import zstandard

from receiver.batch import opened

GATEWAY, RECIPIENT, EPOCH = "GTEST0000000001", "r.example", "0123456789ab"
CREATED = "2026-03-01T00:00:00Z"


def moment(t):
    return f"{datetime.fromtimestamp(t, UTC):%Y-%m-%dT%H:%M:%SZ}"


def second(text):
    return int(datetime.fromisoformat(text).timestamp())


def document(seq, epoch=EPOCH, gateway=GATEWAY, **members):
    about = {"schema": "gardien/batch/1", "gateway": gateway, "recipient": RECIPIENT}
    about |= {"epoch": epoch, "seq": seq}
    if "void" in members:
        return about | members
    facts = {"lane": "live", "created": CREATED, "clock": "trusted", "privacy": "T-1", "series": []}
    return about | facts | members


def packed(of):
    return zstandard.compress(json.dumps(of).encode())


def sha256(of):
    return hashlib.sha256(packed(of)).hexdigest()


def batch(seq, epoch=EPOCH, **members):
    return opened(packed(document(seq, epoch, **members)))


def series(place, t, v, **members):
    """Rows of an index in kWh at moments or Unix seconds; no value: M."""
    slots = [second(at) if isinstance(at, str) else at for at in t]
    of = {"place": place, "channel": "elec.imp", "kind": "REG", "unit": "kWh", "step": 900}
    of |= {"meter": "M1", "occupancy": "H1", "basis": "K1"}
    of |= {"t0": moment(min(slots)), "t": [slot - min(slots) for slot in slots], "v": v}
    return of | {"q": "".join("M" if value is None else "V" for value in v)} | members


def retraction(id_, place, **members):
    word = {"id": id_, "place": place, "from": "1970-01-01T00:00:00Z"}
    return word | {"ver": 9007199254740991, "reason": "withdrawn"} | members
