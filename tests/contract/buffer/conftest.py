import pytest

from agent.buffer.batch import BatchHead
from agent.buffer.spool import Spool

HEAD = BatchHead("G7Q2MXW4T", "energie.metropole.example", "FR-1")
KEY = b"k" * 32


@pytest.fixture
def opened(tmp_path):
    """Open the spool of this test; again and again, if it likes."""

    def open_it(key=KEY, head=HEAD, max_bytes=20_000_000, path=tmp_path / "spool.db", reserve=0):
        return Spool.open(path, key, head, max_bytes, reserve)

    return open_it
