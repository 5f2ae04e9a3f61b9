"""Every error the agent raises on purpose; one class per distinct reaction.

AgentError
├── Refused          tell the person what is wrong and what to do; nothing was changed
│   ├── ConfigError  the same, of the configuration: which lines to change
│   ├── NotYet       the same, today: keep what was asked for, try again when something has changed
│   ├── NotForYou    the same, of a file that this account may not read: another account can
│   └── NotRecorded  the disk did not take it: keep it, try exactly the same again later
├── WriteRefused     a device did not take a command: read what stands there before anything else
├── LinkLost         close the link, wait, open it again
│   └── OutOfStep    the same, and ask again: the far side is there, only the bytes are out of step
├── StorageFailed    the disk takes or gives nothing now: go on without it, try again later
├── SpoolFull        the rows were not taken: count them, say so upstream when there is room
├── UplinkLost       close the uplink, wait, open it again; batches stay in the spool
├── NotStored        keep the connection, wait, send the same batch again
└── BatchRejected    the far side refuses this: quarantine it, go on with the next
    └── TooLarge     the same for its size: send its rows in smaller batches
"""


class AgentError(Exception):
    """Base of every error the agent raises on purpose."""


class Refused(AgentError):
    """What a person asked for cannot be done as asked; the message says what to do instead.

    `values` are put into the message: so another process can say it in its reader's language. A
    list is of messages, which are said with commas between them.
    """

    def __init__(self, message: str = "", /, **values: str | list[str]) -> None:
        here = {
            name: value if isinstance(value, str) else ", ".join(value)
            for name, value in values.items()
        }
        super().__init__(message.format(**here) if here else message)
        self.message, self.values = message, values


class ConfigError(Refused):
    """The configuration cannot be used as written."""


class NotYet(Refused):
    """What was asked for builds on a fact that may still come."""


class NotForYou(Refused):
    """What is asked about is not for this account to read; nothing is known to be wrong with it."""


class NotRecorded(Refused):
    """The disk did not take it; whoever sent it must send the same again later."""


class WriteRefused(AgentError):
    """A device did not acknowledge what was written to it, or does not say what stands there."""


class LinkLost(AgentError):
    """The whole link is unusable, not just one device on it."""


class OutOfStep(LinkLost):
    """What comes over the link has no beginning any more, or the far side hung up: opened anew it
    is likely to work.
    """


class SpoolFull(AgentError):
    """The spool is at its cap; nothing of what was offered was stored."""


class StorageFailed(AgentError):
    """The disk under a store is read-only, reports errors or does not answer; says which.

    What was being committed counts as not kept.
    """


class UplinkLost(AgentError):
    """The connection to the far side is gone."""


class NotStored(AgentError):
    """The connection stands, but nobody has taken custody of the batch."""


class BatchRejected(AgentError):
    """The far side understood the batch and does not accept it."""


class TooLarge(BatchRejected):
    """The far side takes no batch of this size."""
