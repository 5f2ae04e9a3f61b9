"""Whose a reading is, since when, and by whose word."""
