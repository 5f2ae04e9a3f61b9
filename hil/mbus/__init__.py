"""A pretend M-Bus line, written from EN 13757-2 and -3; it shares no code with the agent."""
