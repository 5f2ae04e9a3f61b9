"""gardien: the agent on a building's gateway."""
