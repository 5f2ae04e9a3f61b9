"""Demand response on open lines, and the calls about it."""
