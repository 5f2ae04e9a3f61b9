"""How far the tests search: a short form in `make test`, the long one in `make torture`."""

import os

from hypothesis import settings

LONG = bool(os.environ.get("GARDIEN_TORTURE"))


def depth(short, long):
    """Return what the form that runs takes."""
    return long if LONG else short


def examples(short, long):
    """Return how many examples hypothesis tries."""
    return settings(max_examples=depth(short, long))
