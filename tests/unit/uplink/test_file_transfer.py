"""A far side that lies about what it has: nothing gets its name before its length was seen."""

import pytest

from agent.core.errors import NotStored
from agent.uplink.files.folder import PART, RemoteFile, bring

CONTENT, SHA = b"0123456789", "ab" * 32
FINAL = "in/G_r_e_1.csv.gz"


class Liar:
    """Files in memory; what it says of a part is what it was told to say, once each."""

    def __init__(self, *sizes: int | None) -> None:
        self.files: dict[str, bytes] = {}
        self.sizes = list(sizes)

    def used(self) -> int:
        return 0

    def entries(self, _folder: str) -> list[RemoteFile]:
        return []

    def entry(self, path: str) -> RemoteFile | None:
        size = self.sizes.pop(0) if self.sizes else len(self.files[path])
        return None if size is None else RemoteFile(path, size, 0.0)

    def read(self, path: str, most: int) -> bytes | None:
        return self.files[path][:most]

    def append(self, path: str, offset: int, content: bytes) -> None:
        self.files[path] = self.files.get(path, b"")[:offset].ljust(offset, b"?") + content

    def rename(self, path: str, to: str) -> None:
        self.files[to] = self.files.pop(path)

    def remove(self, path: str) -> None:
        self.files.pop(path, None)


def test_a_file_takes_its_name_once_its_whole_length_was_seen():
    far = Liar(None)
    bring(far, FINAL, CONTENT, SHA)
    assert far.files == {FINAL: CONTENT}


@pytest.mark.parametrize("seen", [None, 0, len(CONTENT) - 1, len(CONTENT) + 1, 2**63])
def test_one_whose_length_is_another_stays_a_part(seen: int | None):
    far = Liar(None, seen)
    with pytest.raises(NotStored, match="were stored"):
        bring(far, FINAL, CONTENT, SHA)
    assert [name.endswith(PART) for name in far.files] == [True]


def test_a_part_that_is_longer_than_the_file_is_begun_anew():
    far = Liar(len(CONTENT) + 5)
    far.files[f"{FINAL}.{SHA[:8]}{PART}"] = b"x" * (len(CONTENT) + 5)
    bring(far, FINAL, CONTENT, SHA)
    assert far.files == {FINAL: CONTENT}
