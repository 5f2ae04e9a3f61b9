"""What people are shown about the rows of a list: why rows are left out, and what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.i18n import N_

if TYPE_CHECKING:
    from collections.abc import Mapping

LEFT_OUT: Mapping[str, str] = {
    "note": N_("which are no lots (titles, totals). Line and text:"),
    "other": N_(
        "in which nobody lives, or perhaps somebody does (a lodge, a maid's room). If somebody"
        " does: gardien place new. Line and type:"
    ),
    "no_dwelling": N_(
        "which are cellars, parking spaces and the like of no dwelling in the list. They need no"
        " record. Line and type:"
    ),
    "no_lease": N_("which state no lease: a vacant dwelling, a cellar. Line and dwelling:"),
    "no_lot": N_("which are cellars, parking spaces and the like without a lot number:"),
}
"""why rows are left out"""
REMARKS: Mapping[str, str] = {
    "vacant": N_("vacant according to the list, so recorded without occupants"),
    "left": N_("moved out according to the list, so recorded without occupants"),
    "nobody": N_(
        "no occupant in the list, so the date of entry is not used and the occupancy is unknown"
    ),
    "owner": N_(
        "the list names owners and no occupants, so the date of entry is not used (it may be that"
        " of the purchase) and the occupancy is unknown"
    ),
    "early": N_("recorded as occupied since 2000-01-02, the earliest day that is recorded"),
    "no_date": N_(
        "the date of entry is that of no occupants (01/01/1900), so the occupancy is unknown"
    ),
    "leaves": N_(
        "will move out according to the list; the date is not recorded here: gardien occupancy"
        " import, or move-out"
    ),
}
"""what was decided about dwellings of a list"""
