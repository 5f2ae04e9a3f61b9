"""The registry: to whom a reading belongs, since when, and who recorded it."""
