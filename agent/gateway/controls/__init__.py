"""Demand response on open lines."""
