"""`gardien hotline`: the answers to five calls, as sentences that can be read out on the phone.

They are made from the dossier of the dwelling (`privacy explain DWELLING`) and name no other one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.privacy import (
    PROOFS,
    Former,
    access_text,
    exit_on_gaps,
    has,
)
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    Config,
    Json,
    State,
    as_json,
    ask,
    wrapped,
    zone_of_answers,
)
from agent.core import i18n
from agent.core.i18n import N_, _, n_

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    Facts = Mapping[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    help="Answer the five calls that come most often, in sentences to read out.",
)
Dwelling = Annotated[str, typer.Argument(help="The dwelling's label or id.")]
ENDS = {
    "COMPLETED": N_("It ended as planned."),
    "CANCELLED": N_("It was cancelled: {why}."),
    "SUPERSEDED": N_("Another order took its place."),
    "ABORTED": N_("It was broken off: {why}."),
    "OPTED_OUT": N_("Somebody in the building ended it: {why}."),
    "FAILED": N_("It failed: {why}."),
}
"""how an order ended, by its state"""


@app.command("no-data")
def no_data(
    dwelling: Dwelling,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Answer: "You have had no data of mine since Tuesday." Why, and what to do."""
    _answer(_why_no_data, dwelling, config, state, json=json)


@app.command("which-meter")
def which_meter(
    dwelling: Dwelling,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Answer: "Is my neighbour's consumption taken for mine?" Which meters, how they were proven,
    and who receives what.
    """
    _answer(_which_meter, dwelling, config, state, json=json)


@app.command("who-has-seen")
def who_has_seen(
    dwelling: Dwelling,
    id: Former = None,  # noqa: A002 -- the word people write
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Answer: "Who has seen my data?", here at the gateway, and who has received it."""
    _answer(_who_has_seen, dwelling, config, state, json=json, occupancy=id)


@app.command("delete-everything")
def delete_everything(
    dwelling: Dwelling,
    id: Former = None,  # noqa: A002 -- the word people write
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Answer: "Delete everything." What that would do, what remains and why, and the command. This
    command deletes nothing.
    """
    _answer(_delete_everything, dwelling, config, state, json=json, occupancy=id)


@app.command()
def heating(
    dwelling: Dwelling,
    on: Annotated[
        str | None,
        typer.Option(metavar="DAY", help="The day in question; default: the last 7 days."),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Answer: "The heating was cold: was it you?" The orders to it, and who requested them."""
    _answer(
        lambda facts: _heating(facts, *_days(on)),
        *(dwelling, config, state), json=json, unless={"clock", "restored"},
    )  # fmt: skip


def _nothing_sent(facts: Facts, nothing: str) -> str:
    """That nothing is sent, unless the gateway does not know it."""
    from agent.registry.dossier import MORE_MAY_LEAVE

    if any(gap["kind"] in MORE_MAY_LEAVE for gap in facts["unknown"]):
        return _("The gateway cannot say whether something of your dwelling is sent.")
    return nothing


def _answer(
    sentences: Callable[[Facts], Iterable[str]],
    dwelling: str,
    config: Any,
    state: Any,
    *,
    json: bool,
    occupancy: str | None = None,
    unless: Collection[str] = (),
) -> None:
    """Print what one of the five says about the dossier of a dwelling. `unless`: the kinds of gaps
    that leave this answer incomplete; default: all. Raises Refused.
    """
    from agent.core.errors import Refused

    facts = ask(config, state, "privacy.explain", place=dwelling, occupancy=occupancy)
    if facts["type"] != "dwelling":
        raise Refused(
            _("{label} is no dwelling, so it has no occupants who could call", label=facts["label"])
        )
    answer = list(sentences(facts))
    if json:
        as_json({"sentences": answer, "dossier": facts})
    else:
        for sentence in answer:
            typer.echo(wrapped(sentence))
    exit_on_gaps([gap for gap in facts["unknown"] if not unless or gap["kind"] in unless])


def _why_no_data(facts: Facts) -> Iterator[str]:
    """Say from the meter to the recipient what works, and end with what to do."""
    label, steps = facts["label"], list[str]()
    if facts["occupancy"] is None:
        yield from _nobody(facts)
        steps.append(_("Record who lives there: gardien occupancy move-in {label}", label=label))
    if not facts["running"]:
        yield _("The gateway's software is stopped: nothing is read or sent until it runs again.")
        steps.append(_("Start it: sudo systemctl start gardien"))
    present = [one for one in facts["meters"] if one["until"] is None]
    if not present:
        yield _("No meter is recorded for {label}, so nothing can be sent of it.", label=label)
        steps.append(_("Record its meter: gardien meter assign DEVICE {label}", label=label))
    for meter in present:
        yield _meter_state(meter, running=facts["running"])
        if meter["failures"] and meter["device"]:
            steps.append(_("Try the meter: gardien read {device}", device=meter["device"]))
    sent = sorted({row["recipient"] for row in facts["rows"] if row["leaves"]})
    for recipient in sent:
        yield from _delivery(facts, recipient)
    if any(_cut(facts, recipient) for recipient in sent):
        steps.append(_("Look at the connection: gardien status"))
    # also whoever gets nothing at all
    concerned = {one["recipient"] for one in facts["consents"]} | {*facts["last_received"]}
    concerned |= {row["recipient"] for row in facts["withheld"]} - {*sent}
    withheld = [row for row in facts["withheld"] if row["recipient"] in concerned]
    yield from _not_sent(withheld, facts)
    if not sent:
        yield _nothing_sent(
            facts, _("Nothing of {label} alone is sent to anybody today.", label=label)
        )
    agreed = {one["id"] for one in facts["consents"]}
    agreed &= {row["basis"] for row in facts["rows"] if row["leaves"]}
    if not agreed and present and facts["occupancy"] is not None:
        steps.append(
            _(
                "What is not sent needs a consent of the occupants. To ask for one: gardien consent"
                " forms {label}",
                label=label,
            )
        )
    yield from steps or [
        _("At the gateway everything works. Ask the recipient what it has done with the data.")
    ]


def _nobody(facts: Facts) -> Iterator[str]:
    from agent.registry.records import occupancy_unknown

    for dwelling in facts["not_occupied"]:
        if dwelling["occupancy_state"] == "vacant":
            since = _day(dwelling["occupancy_state_since"])
            yield _(
                "{label} has been vacant since {since}, so no personal data of it is sent.",
                label=facts["label"], since=since,
            )  # fmt: skip
        else:
            yield f"{occupancy_unknown([facts['label']]).in_language()}."


def _meter_state(meter: Facts, *, running: bool) -> str:
    name = meter["meter"]
    if meter["device"] is None:
        return _("Meter {meter}: no device has reported this number yet.", meter=name)
    if meter["failures"]:
        facts = {"meter": name, "problem": i18n.in_language(meter["problem"])}
        if meter["answered"] is None:
            return n_(
                "Meter {meter} has not answered since the start ({number} time): {problem}.",
                "Meter {meter} has not answered since the start ({number} times): {problem}.",
                meter["failures"], **facts,
            )  # fmt: skip
        return n_(
            "Meter {meter} does not answer any more ({number} time, the last answer was on {when}):"
            " {problem}.",
            "Meter {meter} does not answer any more ({number} times, the last answer was on"
            " {when}): {problem}.",
            meter["failures"], when=_minute(meter["answered"]), **facts,
        )  # fmt: skip
    if meter["answered"] is not None:
        when = _minute(meter["answered"])
        return _("Meter {meter} answers. Its last answer was on {when}.", meter=name, when=when)
    if meter["closed"] is not None and not running:
        when = _minute(meter["closed"])
        return _(
            "Meter {meter}: up to {when} it is recorded what it showed, or why there is no value.",
            meter=name, when=when,
        )  # fmt: skip
    return _("Meter {meter} has not been read yet.", meter=name)


def _cut(facts: Facts, recipient: str) -> bool:
    delivery = facts["delivery"].get(recipient)
    return facts["running"] and delivery is not None and delivery["connected_since"] is None


def _delivery(facts: Facts, recipient: str) -> Iterator[str]:
    """Say what a recipient has received last, and what waits for it."""
    last, waits = facts["last_received"].get(recipient), facts["waiting"].get(recipient, 0)
    due = [
        date["at"]
        for duty in facts["duties"]
        if duty["recipient"] == recipient
        for date in duty["dates"]
    ]
    if last is None and due:
        yield _(
            "{recipient} has not received an index of these occupants yet; the next one is due on"
            " {day}.",
            recipient=_name(facts, recipient), day=_day(min(due)),
        )  # fmt: skip
    elif last is None:
        yield _(
            "{recipient} has not received any value of this dwelling.",
            recipient=_name(facts, recipient),
        )
    else:
        yield _(
            "{recipient} last confirmed values of this dwelling on {day}.",
            recipient=_name(facts, recipient), day=_written(last),
        )  # fmt: skip
    if waits:
        yield n_(
            "{number} value waits here for {recipient}. It is not lost: it will be sent.",
            "{number} values wait here for {recipient}. They are not lost: they will be sent.",
            waits, recipient=_name(facts, recipient),
        )  # fmt: skip
    if _cut(facts, recipient):
        why = facts["delivery"][recipient]["problem"]
        name = _name(facts, recipient)
        if why:
            yield _(
                "There is no connection to {recipient} now: {why}.", recipient=name, why=why
            )  # fmt: skip
        else:
            yield _("There is no connection to {recipient} now.", recipient=name)


def _not_sent(withheld: Iterable[Facts], facts: Facts) -> Iterator[str]:
    """Say what is not sent to whom any more, and why."""
    for (recipient, why), channels in _by_terms(withheld, "why").items():
        ended = [
            one
            for one in facts["consents"]
            if one["recipient"] == recipient and one["standing"] in {"ended", "withdrawn"}
        ]
        if ended:
            last = max(ended, key=lambda one: str(one["withdrawn"] or one["until"]))
            how = _("withdrawn") if last["withdrawn"] else _("ended")
            yield _(
                "{recipient} is not sent {quantities}: the consent was {what} on {day}.",
                recipient=_name(facts, recipient), quantities=channels, what=how,
                day=_day(last["withdrawn"] or last["until"]),
            )  # fmt: skip
        else:
            yield _(
                "{recipient} is not sent {quantities}: {why}.",
                recipient=_name(facts, recipient), quantities=channels, why=_(why),
            )  # fmt: skip


def _which_meter(facts: Facts) -> Iterator[str]:
    label = facts["label"]
    present = [one for one in facts["meters"] if one["until"] is None]
    if not present:
        yield _("No meter is recorded for {label}: no reading counts as yours.", label=label)
    doubtful = []
    for meter in present:
        measured = {row["channel"] for row in facts["rows"] if row["device"] == meter["device"]}
        channels = [meter["channel"]] if meter["channel"] else sorted(measured)
        what = f" ({', '.join(map(_quantity, channels))})" if channels else ""
        yield _(
            "The meter of {label} is number {meter}, since {since}{what}. {who} recorded it.",
            label=label, meter=meter["meter"], what=what, since=_day(meter["since"]),
            who=meter["recorded"]["who"],
        )  # fmt: skip
        yield _("Proof: {proof}.", proof=_(PROOFS[meter["proof"]]))
        if meter["proof"] not in {"display", "load"}:
            doubtful.append(meter["meter"])
    if present:
        yield _("Please compare this number with the one printed on your meter.")
    yield from _receivers(facts)
    for meter in doubtful:
        yield _(
            "Nobody has proven on site that meter {meter} is yours, so a mix-up is possible. Have"
            " it proven: gardien meter verify {name} or gardien meter load {name}",
            meter=meter, name=meter.split(" ")[0],
        )  # fmt: skip
    if present and not doubtful:
        yield _("A mix-up is ruled out, unless somebody has changed the wiring since.")


def _receivers(facts: Facts) -> Iterator[str]:
    """Say who is sent what of the dwelling."""
    rows = [row for row in facts["rows"] if row["leaves"]]
    for (recipient, step, why), channels in _by_terms(rows, "step", "why").items():
        yield _(
            "{recipient} is sent {quantities}, {how}, for: {why}.",
            recipient=_name(facts, recipient), quantities=channels, how=_often(step), why=why,
        )  # fmt: skip
    for share in facts["sums"]:
        if share["step"] is not None:
            yield _(
                "{recipient} is sent {quantity} as one sum over {number} dwellings, from which"
                " nobody can tell your part.",
                recipient=_name(facts, share["recipient"]), quantity=_quantity(share["channel"]),
                number=share["dwellings"],
            )  # fmt: skip
    if not rows:
        yield _nothing_sent(
            facts, _("Nothing that is measured in your dwelling alone is sent to anybody.")
        )
    yield _("Numbers of other dwellings are not given on the phone.")


def _who_has_seen(facts: Facts) -> Iterator[str]:
    looks: dict[tuple[str, str], list[str]] = {}
    for look in facts["looks"]:
        what = access_text(look["what"], look.get("reason", ""))
        looks.setdefault((look["who"], what), []).append(look["when"])
    for (who, what), days in looks.items():
        yield n_(
            "At the gateway, {who} saw data of your dwelling on {number} day, on {last}: {what}.",
            "At the gateway, {who} saw data of your dwelling on {number} days, last on {last}:"
            " {what}.",
            len(days), who=who, last=_day(days[-1]), what=what,
        )  # fmt: skip
    if not looks:
        yield _("At the gateway, nobody is recorded as having seen data of your dwelling.")
    yield from _received(facts)
    yield _(
        "What recipients look at in their own systems is not known here: ask them. Accesses are"
        " recorded for five years, the first of each day."
    )
    yield _(
        "The full answer is the letter: gardien privacy person {label}{id}",
        label=facts["label"], id=_id(facts),
    )  # fmt: skip


def _received(facts: Facts) -> Iterator[str]:
    for holding in facts["holdings"]:
        yield n_(
            "{recipient} has confirmed {number} value of {quantity}, and now has {left}.",
            "{recipient} has confirmed {number} values of {quantity}, and now has {left}.",
            holding["received"], recipient=_name(facts, holding["recipient"]),
            quantity=_quantity(holding["channel"]), left=has(holding),
        )  # fmt: skip
    if not facts["holdings"] and not facts["unknown"]:
        yield _("No recipient has confirmed having received a value of your dwelling.")


def _delete_everything(facts: Facts) -> Iterator[str]:
    yield from _would_end(facts)
    yield from _would_remain(facts)
    consents = {one["id"] for one in facts["consents"]}
    left = any(one["most"] and one["basis"] in consents for one in facts["holdings"])
    ends = any(one["standing"] not in {"ended", "withdrawn"} for one in facts["consents"])
    if not left and not ends and not facts["unknown"]:
        yield _("Nothing is left that could be deleted on request: all of it is gone already.")
        return
    name = _("NAME")
    yield _(
        "Nothing has been deleted yet. To do it: gardien privacy person {label}{id} --stop"
        " --as {name}",
        label=facts["label"], id=_id(facts), name=name,
    )  # fmt: skip


def _would_end(facts: Facts) -> Iterator[str]:
    ends = [one for one in facts["consents"] if one["standing"] not in {"ended", "withdrawn"}]
    for consent in ends:
        yield _(
            "Your consent for {recipient} ends at once ({quantities}; {purpose}).",
            recipient=_name(facts, consent["recipient"]), purpose=consent["purpose"],
            quantities=", ".join(map(_quantity, consent["channels"])),
        )  # fmt: skip
    if not ends:
        yield _("There is no consent in force that could be withdrawn.")
    for recipient, number in facts["waiting"].items():
        yield n_(
            "{number} value that waits here for {recipient} is destroyed, if it is based on a"
            " consent.",
            "{number} values that wait here for {recipient} are destroyed, if they are based on a"
            " consent.",
            number, recipient=_name(facts, recipient),
        )  # fmt: skip
    consents = {one["id"] for one in facts["consents"]}
    for holding in facts["holdings"]:
        values = {
            "recipient": _name(facts, holding["recipient"]),
            "quantity": _quantity(holding["channel"]),
        }
        if not holding["most"]:
            continue
        if holding["basis"] not in consents:
            yield _(
                "{recipient} keeps what it received of {quantity} without consent ({left} values).",
                left=has(holding), **values,
            )  # fmt: skip
        elif holding["recipient"] in facts["delivery"]:
            yield _(
                "{recipient} is asked to erase what it still has of {quantity} ({left} values). It"
                " counts as erased only when it confirms this.",
                left=has(holding), **values,
            )  # fmt: skip
        else:
            yield _(
                "{recipient} has no uplink any more, so the gateway cannot ask it to erase {left}"
                " values of {quantity}. Ask it yourself.",
                left=has(holding), **values,
            )  # fmt: skip


def _would_remain(facts: Facts) -> Iterator[str]:
    for duty in facts["duties"]:
        yield _(
            "Remains, because a law or a contract requires it ({reference}): {recipient} receives"
            " the index at the end of each month, and at a change of occupants, a bill or a"
            " meter exchange.",
            reference=duty["reference"], recipient=_name(facts, duty["recipient"]),
        )  # fmt: skip
    if facts["duties"]:
        yield _("Remain for this: the midnight readings of the last 62 days, here in the gateway.")
    for share in facts["sums"]:
        yield _(
            "Remain: the sums over {number} dwellings for {recipient}, because nobody can take your"
            " part out of them. Your dwelling may stay in the next ones.",
            number=share["dwellings"], recipient=_name(facts, share["recipient"]),
        )  # fmt: skip
    yield _(
        "Remain as evidence, without values: the dates of your occupancy and of your consents, how"
        " many values were sent (five years), and who saw data (five years)."
    )
    if facts["meters"]:
        yield _("Your meters go on being read, but no value leaves without a consent or a duty.")


def _heating(facts: Facts, since: str, until: str) -> Iterator[str]:
    """Say which orders concerned the dwelling between two local days (inclusive)."""
    orders = [
        order
        for order in facts["orders"]
        if _local_day(order["begun"] or order["received"]) <= until
        and _local_day(order["ended"] or until) >= since
    ]
    days = {"since": _written(since), "until": _written(until)}
    if not orders:
        yield _(
            "No: from {since} to {until} the gateway gave no order to the heating or to any other"
            " equipment that concerns your dwelling.",
            **days,
        )  # fmt: skip
        yield _("If it was cold, ask the operator of the boiler.")
        return
    begun = [order for order in orders if order["begun"]]
    if begun:
        yield n_(
            "Yes, the gateway gave {number} order between {since} and {until}.",
            "Yes, the gateway gave {number} orders between {since} and {until}.",
            len(begun), **days,
        )  # fmt: skip
    else:
        yield _("No: orders were requested between {since} and {until}, but none began.", **days)
    for order in orders:
        yield " ".join(_order(order, facts["names"]))


def _order(order: Facts, names: Facts) -> Iterator[str]:
    """What one order was: value, author, authorization, reason, lowest temperature, release."""
    from agent.control.report import decimals, evidence
    from agent.core.quantities import spoken

    unit = spoken(order["unit"], shift=order["action"] == "offset")
    value = f"{order['value']} {unit}".strip().replace("-", "−")
    value = decimals(value, i18n.language())
    facts = {"equipment": order["equipment"] or order["control"], "value": value}
    if order["begun"] is None:
        when = _minute(order["received"])
        yield _("On {when} an order was received: {equipment}, {value}.", when=when, **facts)
    elif order["ended"] is None:
        begun = _minute(order["begun"])
        if order["action"] == "offset":
            yield _(
                "Since {begun}, the set-point of {equipment} has been shifted by {value}.",
                begun=begun, **facts,
            )  # fmt: skip
        else:
            yield _("Since {begun}, {equipment} has been set to {value}.", begun=begun, **facts)
    else:
        span = {"begun": _minute(order["begun"]), "ended": _minute(order["ended"])}
        if order["action"] == "offset":
            yield _(
                "From {begun} to {ended}, the set-point of {equipment} was shifted by {value}.",
                **span, **facts,
            )  # fmt: skip
        else:
            yield _("From {begun} to {ended}, {equipment} was set to {value}.", **span, **facts)
    if order["by"]:
        yield _("Requested by: {who}.", who=names.get(order["by"], order["by"]))
    elif order["failsafe"]:
        yield _("Nobody requested it: the limit applied because the platform was not heard.")
    else:
        yield _("It is not recorded who requested it.")
    if order["authorization"]:
        based = evidence(order["authorization"], i18n.language())
        yield _("Authorization: {evidence}.", evidence=based)
    yield (
        _("Stated reason: {reason}.", reason=order["reason"])
        if order["reason"]
        else _("No reason was stated.")
    )
    if order["seen"]:
        yield _("Measured meanwhile: {seen}.", seen=_seen(order["seen"]))
    yield from _ended(order)


def _ended(order: Facts) -> Iterator[str]:
    if order["begun"] is None:
        if order["state"] == "REJECTED":
            yield _("It was refused, so nothing changed: {why}.", why=order["result"])
        elif order["ended"] is not None:
            yield _("It did not begin: {why}.", why=order["result"])
        return
    if order["state"] in ENDS:
        yield _(ENDS[order["state"]], why=order["result"] or order["state"])
    if order["released"]:
        yield _("The equipment has confirmed the release.")
    elif order["ended"] is not None:
        yield _("The equipment has NOT confirmed the release: gardien control list")


def _seen(text: str) -> str:
    """The worst values of an order: `lowest stairwell 18.4 °C`, in the reader's language."""
    from agent.control.report import extremes

    return extremes(text, i18n.language())


def _by_terms(rows: Iterable[Facts], *terms: str) -> dict[Any, str]:
    """The quantities of rows, by recipient and terms."""
    groups: dict[Any, list[str]] = {}
    for row in rows:
        names = groups.setdefault((row["recipient"], *(row[term] for term in terms)), [])
        name = _quantity(row["channel"])
        if name not in names:
            names.append(name)
    return {key: ", ".join(names) for key, names in groups.items()}


def _name(facts: Facts, recipient: str) -> str:
    """What people call a recipient."""
    return str(facts["names"].get(recipient, recipient))


def _id(facts: Facts) -> str:
    """The option that names former occupants, if the answer is about them."""
    home = facts["occupancy"]
    return f" --id {home['occupancy']}" if home and home["until"] is not None else ""


def _quantity(channel: str) -> str:
    """The name of a channel as people call it."""
    from agent.registry.page import label

    return label(channel, i18n.language())


def _often(step: int) -> str:
    from agent.registry.page import step_words

    return step_words(step, i18n.language())


def _written(day: str) -> str:
    from agent.registry.dates import day_written_out

    return day_written_out(day, i18n.language())


def _day(stamp: str) -> str:
    return _written(_local_day(stamp))


def _minute(stamp: str) -> str:
    from datetime import datetime

    from agent.registry.dates import time_written_out

    at = datetime.fromisoformat(stamp)
    zone = zone_of_answers() or at.astimezone().tzinfo
    assert zone is not None
    return time_written_out(at.timestamp(), zone, i18n.language())


def _local_day(stamp: str) -> str:
    """The local day of a time, as `2026-11-24`; a day stays as it is."""
    from datetime import datetime

    if len(stamp) == len("2026-11-24"):
        return stamp
    return f"{datetime.fromisoformat(stamp).astimezone(zone_of_answers()):%Y-%m-%d}"


def _days(on: str | None) -> tuple[str, str]:
    """The first and the last day of a question, as `2026-11-24`. Raises Refused."""
    from datetime import UTC, datetime, timedelta

    from agent.core.errors import Refused
    from agent.registry.dates import moment

    if on is None:
        today = datetime.now(zone_of_answers())
        return f"{today - timedelta(days=7):%Y-%m-%d}", f"{today:%Y-%m-%d}"
    try:
        day = f"{datetime.fromtimestamp(moment(on, 'UTC'), UTC):%Y-%m-%d}"
    except ValueError as error:
        raise Refused(str(error)) from error
    return day, day
