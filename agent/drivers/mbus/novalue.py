"""How a reader of data says that there is no value: the message becomes the record's error."""


class NoValue(ValueError):  # noqa: N818 -- not an error of ours: the meter has nothing to tell
    """The data holds no value; the message says why. Never leaves the decoder."""
