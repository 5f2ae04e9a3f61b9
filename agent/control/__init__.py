"""Demand response: what was authorized, as far as agreed, and always released."""
