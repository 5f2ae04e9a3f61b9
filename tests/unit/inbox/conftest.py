import pytest

from tests.unit.inbox.desk import Here


@pytest.fixture
def here(tmp_path):
    made = Here(tmp_path).believed()
    yield made
    made.close()
