"""The trust list, verification of signed objects, and the audit chain.

Every object enters through `verify`: bytes from any transport become a `Verified`, or `Forged` is
raised.
"""
