"""What is asked of the controls, whatever the door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import LinkLost, Refused
from agent.registry_api import in_person, passing
from agent.steering import calls
from agent.steering.grants import grants
from agent.trust.verify import verify

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.gateway import Gateway
    from agent.registry_api import Call, Caller
    from agent.steering.setup import Steering


def _asked(call: Callable[..., Awaitable[dict[str, Any]]]) -> Call:
    """A call of the controls, made by whoever asks."""

    @passing(call)
    async def made(house: Gateway, asker: Caller, **args: Any) -> dict[str, Any]:
        if house.steering is None:
            raise Refused("nothing may be adjusted here: see `controls` in the configuration")
        await _guards_read(house, args.get("name", ""))
        return await call(house.steering, asker.who, **args)

    return made


def _done(call: Callable[..., Awaitable[dict[str, Any]]]) -> Call:
    """One that changes something, by a person; the controls record who it was."""
    return in_person(_asked(call))


async def _guards_read(house: Gateway, name: str) -> None:
    """Where nothing is polled, what a control's guards say is asked for once."""
    if name in house.config.controls and house.reload is None:
        try:
            await house.read_guards(name)
        except LinkLost as error:
            raise Refused(str(error)) from error


async def everything(house: Gateway, asker: Caller) -> dict[str, Any]:
    """How every control is."""
    del asker
    return {"controls": calls.held(house.steering) if house.steering else {}}


async def granted(house: Gateway, asker: Caller) -> dict[str, Any]:
    """Who has allowed what."""
    del asker
    if house.steering is None:
        return {"grants": []}
    members = house.reception.known().members if house.reception else {}
    return {"grants": grants(house.steering, members)}


async def test(house: Gateway, asker: Caller, *, name: str) -> dict[str, Any]:
    """Try a control, telling how far it is. Raises Refused where it does not pass."""

    async def say(words: str) -> None:
        await asker.progress({"text": words})

    async def call(steering: Steering, who: str, *, name: str) -> dict[str, Any]:
        return await calls.test(steering, who, say, name=name)

    return await _asked(call)(house, asker, name=name)


async def dry_run(house: Gateway, asker: Caller, *, text: str) -> dict[str, Any]:
    """What would become of a signed order now. Raises Forged where it is none of ours."""
    del asker
    if house.steering is None:
        raise Refused("nothing may be adjusted here: see `controls` in the configuration")
    verified = verify(text.encode(), house.reception_open().known())
    for name in house.config.controls:
        await _guards_read(house, name)
    return await calls.dry_run(house.steering, verified)


CALLS: Mapping[str, Call] = {
    "control.list": everything,
    "control.grants": granted,
    "control.release": _done(calls.release),
    "control.hand_back": _done(calls.hand_back),
    "control.abandon": _done(calls.abandon),
    "control.opt_out": _done(calls.opt_out),
    "control.opt_in": _done(calls.opt_in),
    "control.history": _asked(calls.history),
    "control.test": in_person(test),
    "control.dry_run": dry_run,
}
