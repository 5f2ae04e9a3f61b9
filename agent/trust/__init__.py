"""Whose word counts: the trust list, signed objects, and the chain of what was decided.

`verify` is the one way in: bytes from whatever transport become a `Verified`, or raise `Forged`.
"""
