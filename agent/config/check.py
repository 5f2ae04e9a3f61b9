"""The command `gardien check`. It opens no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.buffer.orphaned_spools import leftovers
from agent.config.files import Files
from agent.config.load import checked
from agent.config.readable import daemon_account, unreadable
from agent.config.summary import summary
from agent.core.errors import ConfigError
from agent.core.i18n import _, n_
from agent.core.state import acting_as

if TYPE_CHECKING:
    from pathlib import Path


def check(path: Path) -> tuple[int, str]:
    """The exit status and the text: 0 and a summary of the configuration, or 1 and its problems."""
    files = Files(path)
    try:
        config = checked(files, strict=True, whole=True)
    except ConfigError as error:
        problems = str(error).splitlines()
        count = n_(
            "{number} problem; nothing was changed",
            "{number} problems; nothing was changed",
            len(problems),
        )
        return 1, "\n".join([str(error), *_remedy(error), count])
    account = daemon_account(path, config.state)
    problems = unreadable(files, config, account) if account else []
    recipients = {one.settings.recipient for one in config.uplinks.values()}
    with acting_as(account):  # root must not open files that this account may have planted
        problems += [f"{path}: {_left(*one)}" for one in leftovers(config.state, recipients)]
    if problems:
        return 1, "\n".join([*problems, _("nothing was changed")])
    return 0, f"{_('{path} is fine', path=path)}\n\n{summary(config)}"


def _remedy(error: ConfigError) -> list[str]:
    """The command that helps if the file cannot be read."""
    if isinstance(error.__cause__, FileNotFoundError):
        return [_("start with a copy of config.example.yaml, or name your file: --config FILE")]
    if isinstance(error.__cause__, PermissionError):
        return [_("this account may not read it: sudo gardien check")]
    return []


def _left(recipient: str, waits: int) -> str:
    return _(
        "uplinks: {number} values are still stored for {recipient}, which has no uplink"
        " any more. Put the uplink back until they are delivered (gardien uplink close"
        " NAME --drain), or destroy them (gardien uplink close {recipient} --drop)",
        number=waits,
        recipient=recipient,
    )
