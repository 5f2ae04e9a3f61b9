"""Run the simulation: see tests/sim/README.md, and `python -m tests.sim --help`."""

from __future__ import annotations

from tests.sim.run import surroundings

if __name__ == "__main__":
    surroundings()
    from tests.sim.command import main

    raise SystemExit(main())
