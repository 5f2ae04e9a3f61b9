"""Reads meters with pymeterbus, an M-Bus master that knows nothing of ours.

    python peer.py PORT NUMBER[:PRIMARY] …

One line of JSON a meter: its number, and quantity, value and unit of each record. In a process of
its own, since importing it changes the root logger.
"""

from __future__ import annotations

import json
import sys
import warnings

warnings.simplefilter("ignore")

import meterbus  # noqa: E402
import serial  # noqa: E402

port, *meters = sys.argv[1:]
with serial.Serial(port, 38_400, parity="E", timeout=1) as line:
    for meter in meters:
        number, _, primary = meter.partition(":")
        if primary:
            meterbus.send_ping_frame(line, int(primary))
            assert isinstance(meterbus.load(meterbus.recv_frame(line, 1)), meterbus.TelegramACK)
            meterbus.send_request_frame(line, int(primary))
        else:
            meterbus.send_select_frame(line, number + "FFFFFFFF")
            assert isinstance(meterbus.load(meterbus.recv_frame(line, 1)), meterbus.TelegramACK)
            meterbus.send_request_frame(line, 0xFD)
        said = json.loads(meterbus.load(meterbus.recv_frame(line, 6)).to_JSON())
        print(json.dumps({"asked": number, "said": said["body"]}))
