"""Check options `mean`: a momentary value must be read several times in each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.channels import channels
from agent.core.i18n import _
from agent.core.model import ValueKind
from agent.core.settings import written

if TYPE_CHECKING:
    from agent.config.compose import ConfigDraft
    from agent.config.models import DeviceConfig, PointOptions
    from agent.config.problem import Path

DAY = 86_400
FEWEST = 2
"""the least number of reads in a step: the mean of one read is the read itself"""


def meancheck(draft: ConfigDraft, path: Path, device: DeviceConfig, merged: PointOptions) -> None:
    """Report a `mean` of an index or state, or over a step that its reads do not fill."""
    if not merged.mean:
        return
    known, step = channels().get(merged.channel or ""), int(merged.every or device.every)
    over = int(merged.mean)
    if merged.channel is None:
        what = _("`{what}` needs a `channel`, such as elec.imp", what="mean")
    elif known is not None and known.kind is ValueKind.REG:
        what = _(
            "{name} is an index: what it counts in a step is `intervals: true`", name=known.name
        )
    elif known is not None and known.at_changes:
        what = _(
            "{name} is a state, which is sent when it changes: it has no mean", name=known.name
        )
    elif over % step or over < FEWEST * step:
        fits = next((n for n in range(over, 0, -1) if _fits(n, over)), over)
        what = _(
            "a mean over {over} needs several reads: write `every: {fits}`, or a longer `mean`",
            over=written(over),
            fits=written(fits),
        )
    else:
        return
    draft.report.value((*path, "mean"), what)


def _fits(step: int, over: int) -> bool:
    """Whether a step of reads divides the day and `over`, with ten reads or more in `over`."""
    return over % step == 0 and DAY % step == 0 and over >= min(10, over) * step
