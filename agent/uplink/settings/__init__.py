"""The configuration of each transport; imports no transport."""
