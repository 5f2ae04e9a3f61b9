"""Lists and groups of documents, in order. They are replaced and never changed, so that whoever
asks an earlier state of the registry, in another thread, gets its answers. Pure.

A replacement costs a copy of the list or of the dict, and work for the documents that differ.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from typing import Any

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")

FEW = 100
"""new members that are put in their places; sorting the whole list is quicker for more"""


def listed(
    members: Sequence[V], gone: Iterable[V], new: Sequence[V], order: Callable[[V], Any]
) -> list[V]:
    """A sorted list with other members. `order` must tell all members apart."""
    after = list(members)
    for member in gone:
        del after[bisect_left(after, order(member), key=order)]
    if len(new) > FEW:
        return sorted([*after, *new], key=order)
    for member in new:
        insort(after, member, key=order)
    return after


def grouped(
    groups: Mapping[K, tuple[V, ...]],
    gone: Iterable[V],
    new: Iterable[V],
    keys: Callable[[V], Iterable[K]],
    order: Callable[[V], Any],
) -> Mapping[K, tuple[V, ...]]:
    """Sorted groups with other members; `keys`: the groups to which a member belongs."""
    changed: dict[K, list[V]] = {}
    for member in gone:
        for key in keys(member):
            if key not in changed:
                changed[key] = list(groups[key])
            changed[key].remove(member)
    for member in new:
        for key in keys(member):
            if (members := changed.get(key)) is None:
                changed[key] = [*groups.get(key, ()), member]
            else:
                members.append(member)
    after = dict(groups)
    for key, members in changed.items():
        if len(members) > 1:
            members.sort(key=order)
        after[key] = tuple(members)
    for key in [key for key, members in changed.items() if not members]:
        del after[key]
    return after
