"""All errors that the agent raises on purpose: one class for each reaction.

AgentError
├── Refused          tell the person what is wrong and what to do; nothing was changed
│   ├── ConfigError  the same for the configuration: name the lines to change
│   ├── NotYet       refused for now: keep the request, try again when something has changed
│   ├── NotForYou    this account may not read the file: another account can
│   ├── NotRecorded  the disk did not store it: keep it, try exactly the same again later
│   ├── LoginNeeded  the person must log in to the web page first
│   └── ReasonNeeded the person must say why, which is written to the access log
├── WriteRefused     a device did not confirm a write: read its value before doing anything else
├── LinkLost         close the line, wait, open it again
│   └── OutOfStep    the same, and ask again: the device is there, only the bytes are out of step
├── StorageFailed    the disk cannot be read or written now: go on without it, try again later
├── SpoolFull        the rows were not stored: count them, report them once there is space
├── UplinkLost       close the uplink, wait, open it again; batches stay in the spool
│   └── CertificateRefused  the same, and perhaps use the previous certificate again
├── NotStored        keep the connection, wait, send the same batch again
└── BatchRejected    the platform refuses the batch: quarantine it, go on with the next
    └── TooLarge     the batch is too large: send its rows in smaller batches
"""

from __future__ import annotations

from typing import Any, ClassVar

from agent.core.i18n import Text


class AgentError(Exception):
    """The base class of all errors that the agent raises on purpose.

    `str` of an error is English; `text` can be translated where it is read. Give the message with
    its `values` separate, or a text.
    """

    text: Text

    def __init__(self, message: str = "", /, **values: object) -> None:
        self.text = message if isinstance(message, Text) else Text(message, **values)
        super().__init__(self.text)


class Refused(AgentError):
    """A request cannot be carried out as it is; the message says what to do instead."""


class ConfigError(Refused):
    """The configuration cannot be used as written."""


class NotYet(Refused):
    """The request depends on a fact that may still arrive."""


class NotForYou(Refused):
    """The file is closed to this account. That says nothing about the content of the file."""


class NotRecorded(Refused):
    """The disk did not store the object. Its sender must send the same object again later."""


class LoginNeeded(Refused):
    """The web page made a call for nobody: its login is missing, unknown or has ended."""


class ReasonNeeded(Refused):
    """The web page shows this only to a person who says why."""


class WriteRefused(AgentError):
    """A device did not confirm a write, or its value cannot be read back."""


class LinkLost(AgentError):
    """The whole line is unusable, not just one device on it."""


class OutOfStep(LinkLost):
    """Frames on the line can no longer be told apart, or the far side closed the connection.

    The line is likely to work once it is opened again.
    """


class SpoolFull(AgentError):
    """The spool has reached its limit. None of the offered rows was stored."""


class StorageFailed(AgentError):
    """The disk under a store is read-only, reports errors or does not answer.

    The message says which. What was being committed counts as not stored.
    """


class UplinkLost(AgentError):
    """The connection to the platform is lost."""


class CertificateRefused(UplinkLost):
    """The platform refuses this gateway, and our certificate may be the cause."""


class NotStored(AgentError):
    """The connection works, but the platform has not stored the batch."""


class BatchRejected(AgentError):
    """The platform understood the batch and refuses it."""


class TooLarge(BatchRejected):
    """The platform accepts no batch of this size."""


class Absent:
    """In place of a part that this gateway does not have: false, and its use is refused.

    A subclass also derives from the class of the part. What it defines itself can be used.
    """

    REASON: ClassVar[str]

    def __init__(self) -> None:
        """Nothing of the part is made."""

    def __bool__(self) -> bool:
        return False

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name in vars(type(self)):
            return super().__getattribute__(name)
        raise Refused(type(self).REASON)
