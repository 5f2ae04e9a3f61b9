"""The error of the decoder, and its subclass for errors that a meter reports."""

from __future__ import annotations

APPLICATION_ERRORS = {
    0x00: "unspecified error",
    0x01: "CI field not implemented",
    0x02: "buffer too long, cut off",
    0x03: "too many records",
    0x04: "premature end of record",
    0x05: "more than 10 DIFEs",
    0x06: "more than 10 VIFEs",
    0x08: "application too busy to answer",
    0x09: "too many readouts: the meter's budget is spent",
    0x10: "access denied",
    0x11: "application or command unknown",
    0x12: "parameter missing or wrong",
    0x13: "receiver address unknown",
    0x14: "decryption failed",
    0x15: "encryption method not supported",
    0x16: "signature method not supported",
    0xF0: "dynamic application error",
}
"""EN 13757-3, report of application errors (slave to master)"""


class MbusError(ValueError):
    """The bytes are not a telegram of a meter; the message gives the reason, for a person.

    `agent.drivers.mbus.decode` raises no other exception, whatever the bytes.
    """


class ApplicationError(MbusError):
    """The meter answered with an error (CI 70) in a valid frame."""

    def __init__(self, code: int | None) -> None:
        self.code = code
        text = APPLICATION_ERRORS.get(code or 0, "reserved code")
        super().__init__(f"the meter reports an application error: {text} ({code or 0:02X}h)")
