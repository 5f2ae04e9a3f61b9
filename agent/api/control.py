"""Calls about controls, orders and grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.api import control_calls as calls
from agent.api.registry import in_person, passing
from agent.core.errors import LinkLost, Refused
from agent.gateway.controls.grants import grants
from agent.trust.verify import verify

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.api.registry import Call, Caller
    from agent.gateway.controls.setup import Steering
    from agent.gateway.gateway import Gateway


def _on_controls(call: Callable[..., Awaitable[dict[str, Any]]]) -> Call:
    """Wrap a call so that it gets the open controls and the account of the caller."""

    @passing(call)
    async def wrapper(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
        if gateway.steering is None:
            raise Refused("no control is configured: see `controls` in the configuration")
        await _guards_read(gateway, args.get("name", ""))
        return await call(gateway.steering, caller.who, **args)

    return wrapper


def _by_a_person(call: Callable[..., Awaitable[dict[str, Any]]]) -> Call:
    """Wrap a call that changes something: a person must make it, and the controls record who."""
    return in_person(_on_controls(call))


async def _guards_read(gateway: Gateway, name: str) -> None:
    """Read the guards of a control once if no daemon polls them."""
    if name in gateway.config.controls and gateway.reload is None:
        try:
            await gateway.read_guards(name)
        except LinkLost as error:
            raise Refused(str(error)) from error


async def everything(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Describe every control."""
    del caller
    return {"controls": calls.held(gateway.steering) if gateway.steering else {}}


async def granted(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """List all grants."""
    del caller
    if gateway.steering is None:
        return {"grants": []}
    members = gateway.inbox.known().members if gateway.inbox else {}
    return {"grants": grants(gateway.steering, members)}


async def test(gateway: Gateway, caller: Caller, *, name: str) -> dict[str, Any]:
    """Run the self-test of a control and report progress. Raises Refused if it fails."""

    async def say(text: str) -> None:
        await caller.progress({"text": text})

    async def call(steering: Steering, who: str, *, name: str) -> dict[str, Any]:
        return await calls.test(steering, who, say, name=name)

    return await _on_controls(call)(gateway, caller, name=name)


async def dry_run(gateway: Gateway, caller: Caller, *, text: str) -> dict[str, Any]:
    """Say what would become of a signed order now. Raises Forged if it does not verify."""
    del caller
    if gateway.steering is None:
        raise Refused("no control is configured: see `controls` in the configuration")
    verified = verify(text.encode(), gateway.inbox_open().known())
    for name in gateway.config.controls:
        await _guards_read(gateway, name)
    return await calls.dry_run(gateway.steering, verified)


CALLS: Mapping[str, Call] = {
    "control.list": everything,
    "control.grants": granted,
    "control.release": _by_a_person(calls.release),
    "control.hand_back": _by_a_person(calls.hand_back),
    "control.abandon": _by_a_person(calls.abandon),
    "control.opt_out": _by_a_person(calls.opt_out),
    "control.opt_in": _by_a_person(calls.opt_in),
    "control.history": _on_controls(calls.history),
    "control.test": in_person(test),
    "control.dry_run": dry_run,
}
