"""A registry of dwellings whose people consented, and points on their meters: real parts."""

from decimal import Decimal

from agent.acquisition.row_assignment import RowAssignment
from agent.core.model import Point, Sample
from agent.registry.consent_policy import policy
from agent.registry.inputs import NewConsent, NewInstallation, NewPlace
from agent.registry.registry import Registry

RECIPIENT = "energie.metropole.example"
LONG_AGO = 1_760_000_000
NOW = 1_800_000_000


class Town:
    """Dwellings D1…, each with a meter of its own serial number; all or some consent."""

    now = NOW
    """when it is recorded"""

    def __init__(self, folder, dwellings=2, consents=None, step=10, since=LONG_AGO):
        self.registry = Registry.open(folder / "registry.json")
        self.policy = policy("DEMO-1")
        labels = [f"D{n}" for n in range(1, dwellings + 1)]
        places = [NewPlace(label, "dwelling", since=since) for label in labels]
        self.registry.add_places(places, "test", "test", self.now)
        meters = [NewInstallation(label, serial=f"100{label[1:]}", since=since) for label in labels]
        self.registry.install(meters, "test", "test", self.now)
        for label in labels if consents is None else consents:
            self.consent(label, step=step, since=since)

    def dwelling(self, label, serial, since, consents=True, device=None):
        """One more, whose meter is known from `since` on."""
        self.registry.add_places(
            [NewPlace(label, "dwelling", since=LONG_AGO)], "test", "test", self.now
        )
        meter = NewInstallation(label, device=device, serial=serial, since=since)
        self.registry.install([meter], "test", "test", self.now)
        if consents:
            self.consent(label)

    def consent(self, label, step=10, since=LONG_AGO, until=None, channel="elec.imp"):
        new = NewConsent(label, RECIPIENT, (channel,), step, "advice", since=since, until=until)
        self.registry.consent([new], "test", "test", self.now, self.policy)

    def gate(self):
        return RowAssignment(self.registry, self.policy, RECIPIENT)

    def place(self, label):
        return self.registry.place(label).id


def point(device="m1", name="energy", every=10, channel="elec.imp", unit="kWh", **more):
    return Point(device, name, "1", "input/72/float32", every, channel, unit, **more)


def sample(of, value="1.5", at=None, why=None):
    raw = None if value is None else Decimal(value)
    return Sample(of, NOW + 0.0 if at is None else at, raw, why)
