"""A running gateway states where its web page is open, and stops stating it after a reload."""

import asyncio
import socket

from agent.api.calls import CALLS
from agent.api.registry import Caller
from agent.api.report.document import verified
from agent.api.report.report_page import page
from agent.cli.status import show
from agent.registry import identity
from tests.contract.gateway.running import at_work

CONFIG = """\
building: {{name: Les Alpins, timezone: Europe/Paris}}
clock: {{source: system}}
privacy: {{policy: DEMO-1}}
state: {state}
"""


async def nothing(_):
    pass


ALICE = Caller("alice", nothing)


def test_status_and_report_show_what_listens(tmp_path, capsys):
    path, state = tmp_path / "config.yaml", tmp_path / "state"
    state.mkdir(mode=0o700)
    identity.mint(state)
    plain = CONFIG.format(state=state)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        path.write_text(f'{plain}web: {{listen: ["{address}"]}}\n')

        async def states():
            async with at_work(path) as gateway:
                opened = await CALLS["status"](gateway, ALICE)
                report = await CALLS["report.commissioning"](gateway, ALICE)
                path.write_text(plain)
                await CALLS["reload"](gateway, ALICE)
                return opened, report, await CALLS["status"](gateway, ALICE)

        opened, report, closed = asyncio.run(states())
    assert opened["web"]["listening"] == [address]
    show(opened, [], every=False)
    assert f"https://{address}" in capsys.readouterr().out
    document, sha256 = verified(report["file"], "report.json")
    assert document.page.addresses == [address]
    assert f"https://{address}" in page(document, sha256, "fr").replace("<wbr>", "")
    assert closed["web"] is None
