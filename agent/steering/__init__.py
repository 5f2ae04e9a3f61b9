"""Demand response on the lines that are open, and what can be asked of it."""
