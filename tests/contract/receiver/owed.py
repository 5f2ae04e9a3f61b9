"""What is owed, as docs/platform.md has it in words: of the directory alone, in plain Python."""

from datetime import UTC, datetime, timedelta

from tests.contract.receiver.batches import second

DAY, MONTH = 86_400, 2_592_000


def slots(step, since, last, zone):
    """Each slot from `since` to `last`, with the one before it."""
    if step < DAY:
        for t in range(-(-since // step) * step, last + 1, step):
            yield t - step, t
        return
    day, before = datetime.fromtimestamp(since, UTC).date() - timedelta(days=63), None
    while (t := int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())) <= last:
        if step < MONTH or day.day == 1:
            if t >= since:
                yield before, t
            before = t
        day += timedelta(days=1)


def owed(lists, last, zone):
    """The owed slots as (place, channel, kind, step, slot). `lists`: the items of the directory."""

    def covers(item, begin, t):
        until = second(item["until"]) if "until" in item else float("inf")
        return second(item["since"]) <= begin and (t if begin == t else t - 1) < until

    def lived_in(basis, place, begin, t):
        return any(
            home["place"] == place and home["id"] == basis.get("occupancy", home["id"])
            and covers(home, begin, t)
            for home in lists.get("occupancies", ())
        )  # fmt: skip

    bases = [one for one in lists.get("bases", ()) if "withdrawn" not in one]
    sums = {one["place"] for one in bases if one["id"] == "rest"}
    for series in lists.get("series", ()):
        place, channel, kind, step = (series[of] for of in ("place", "channel", "kind", "step"))
        if kind == "EVT" or place in sums:
            continue
        mine = [
            one for one in bases
            if one.get("place", place) == place and channel in one.get("channels", [channel])
            and step >= one.get("step", MONTH if "duty" in one else 0)
            and not (one["id"] == "common" and place.startswith("D"))
        ]  # fmt: skip
        end = second(series["until"]) - 1 if "until" in series else last
        for before, t in slots(step, second(series["since"]), min(last, end), zone):
            begin = before if kind in {"INT", "AVG"} else t
            if any(
                covers(one, begin, t)
                and ("recorded" not in one or second(one["recorded"]) < t)
                and (not one.keys() & {"occupancy", "duty"} or lived_in(one, place, begin, t))
                for one in mine
            ):
                yield place, channel, kind, step, t
