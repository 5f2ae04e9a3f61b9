import pytest

from tests.unit.acquisition.house import NOW, Town
from tests.virtual_time import clocks_at


@pytest.fixture
def town(tmp_path):
    return Town(tmp_path)


@pytest.fixture
def virtually():
    """Runs a coroutine; during the test `time` tells the time of its loop, which does not wait."""
    with clocks_at(NOW + 0.5) as run:
        yield run
