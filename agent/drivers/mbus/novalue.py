"""The exception for data without a value; its message becomes the record's error."""


class NoValue(ValueError):
    """The data holds no value; the message gives the reason. It never leaves the decoder."""
