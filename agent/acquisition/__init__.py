"""From the answer of a device to a row in the spool: its slot, its place, its recipients, and the
reason where a value is missing.
"""
