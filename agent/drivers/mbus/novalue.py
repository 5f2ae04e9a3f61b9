"""How a reader of data says that there is no value: the message becomes the record's error."""


class NoValue(ValueError):
    """The data holds no value; the message says why. Never leaves the decoder."""
