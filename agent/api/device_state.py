"""The state of a device in a sentence, as `gardien status --all` and the web page show it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.core.i18n import Plural, Text, joined

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def device_state(device: Mapping[str, Any], uplinks: Collection[str]) -> Text:
    """Return what can be said of a device of a status, the most important first.

    `uplinks`: all that there are.
    """
    if number := device["failures"]:
        times = Plural("no answer once", "no answer {number} times", number)
        return Text("{what}, next try in {seconds} s", what=times, seconds=device["rests_s"])
    # no recipient gets it: the reason is all that matters
    if device["held"] and set(uplinks) <= device["held"].keys():
        return joined("; ", [_text(why) for why in sorted(set(device["held"].values()))])
    parts = [_answers(device)]
    if device["clock"] and device["clock"]["words"]:
        parts.append(_text(device["clock"]["words"]))
    # other uplinks get the readings
    parts += [
        Text("not sent to {uplink}: {words}", uplink=uplink, words=_text(why))
        for uplink, why in device["held"].items()
    ]
    return joined("; ", parts)


def _answers(device: Mapping[str, Any]) -> Text:
    if device["said"]:
        return _text(device["said"])
    if not device["answered"]:
        return Text("not read yet")
    if not device["answer_ms"]:
        return Text("fine")
    state = Text("fine, {number:.0f} ms", number=device["answer_ms"])
    if device["failed"]:
        return joined(", ", [state, Text("{number} failed", number=device["failed"])])
    return state


def _text(message: str) -> Text:
    """Return a text of an answer, which is a plain string if it has no values."""
    return message if isinstance(message, Text) else Text(message)
