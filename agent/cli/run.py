"""`gardien run`: the daemon."""

from __future__ import annotations

from agent.cli.terminal import DEFAULT_CONFIG, Config


def run(config: Config = DEFAULT_CONFIG) -> None:
    """Run the agent until SIGTERM or Ctrl-C."""
    from agent.daemon import serve

    serve(config)
