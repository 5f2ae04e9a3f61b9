"""Rows of a spool in memory, beside those that the disk may have."""

import pytest

from agent.buffer.spool import provisional
from tests.unit.buffer.rows import reading


@pytest.mark.parametrize(
    ("row", "ver", "again"),
    [
        (reading(), 7, False),
        (reading(value=None, why="silent", ver=5), None, True),
        (reading(ver=5), 5, True),
    ],
)
def test_a_row_that_the_disk_may_have_is_marked(row, ver, again):
    """A commit that failed had taken effect, and the index at an exchange was in both spools with
    one version, in neither `again`. Rules A3, T6.
    """
    (left,) = provisional([row], 7)
    assert (left.ver, left.again) == (ver, again)
