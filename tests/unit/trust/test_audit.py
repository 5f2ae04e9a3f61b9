"""The audit chain: nothing can be taken out or changed unseen, and a kill leaves it whole."""

import json
import time

import pytest

from agent.trust.audit import (
    FOLDER,
    KEPT_FOR,
    OTHERS_SEGMENTS,
    RECEIPTED,
    Broken,
    Chain,
    canonical,
    segments,
    verify,
)

NOW = 1_795_000_000.0


def chain(state, **changed):
    return Chain(state, lambda: NOW, fsync=lambda _: None, **changed)


def filled(state, count=5, **changed):
    made = chain(state, **changed)
    for n in range(count):
        made.append("object.accepted", {"jti": f"0192-{n}", "n": n})
    return made


def only(state):
    (file,) = segments(state / FOLDER)
    return file


def test_a_chain_is_followed_from_its_first_record_to_its_last(tmp_path):
    made = filled(tmp_path)
    verdict = verify(tmp_path / FOLDER)
    assert (verdict.first, verdict.last, verdict.hash) == (1, 5, made.last)
    assert verify(only(tmp_path)).hash == made.last
    again = chain(tmp_path)
    assert (again.length, again.last) == (5, made.last)
    assert again.append("key", {"kid": "x"}) == verify(tmp_path / FOLDER).hash


@pytest.mark.parametrize("line", range(5))
def test_a_record_that_was_changed_is_found(tmp_path, line):
    """Rule O25."""
    made = filled(tmp_path)
    file = only(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"jti":"0192', b'"jti":"0193')
    file.write_bytes(b"".join(lines))
    if line == 4:  # what nothing follows is told by the hash in the batches
        assert verify(tmp_path / FOLDER).hash != made.last
    else:
        with pytest.raises(Broken, match=f"record {line + 2} does not follow"):
            verify(tmp_path / FOLDER)


@pytest.mark.parametrize("line", range(4))
def test_a_record_that_was_taken_out_is_found(tmp_path, line):
    """Rule O25."""
    filled(tmp_path)
    file = only(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:line] + lines[line + 1 :]))
    with pytest.raises(Broken):
        verify(tmp_path / FOLDER)


def test_records_in_another_order_another_form_or_twice_are_found(tmp_path):
    filled(tmp_path)
    file = only(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    for wrong in (
        [lines[1], lines[0], *lines[2:]],
        [*lines, lines[-1]],
        [json.dumps(json.loads(lines[0])).encode() + b"\n", *lines[1:]],
        [b"\n", *lines],
        [lines[0], b"[]\n", *lines[1:]],
    ):
        file.write_bytes(b"".join(wrong))
        with pytest.raises(Broken):
            verify(tmp_path / FOLDER)


def test_a_line_torn_at_any_byte_is_cut_off_and_the_chain_goes_on(tmp_path):
    made = filled(tmp_path, 3)
    file = only(tmp_path)
    whole = file.read_bytes()
    before = verify(tmp_path / FOLDER).hash
    made.append("object.accepted", {"jti": "the torn one"})
    longer = file.read_bytes()
    for cut in range(len(whole) + 1, len(longer)):
        file.write_bytes(longer[:cut])
        assert verify(tmp_path / FOLDER).torn == cut - len(whole)
        again = chain(tmp_path)
        assert (again.last, again.torn) == (before, cut - len(whole))
        again.append("audit.torn", {"bytes": again.torn})
        assert verify(tmp_path / FOLDER).last == 4
        file.write_bytes(whole)


@pytest.mark.parametrize("left", ["a torn line", "an empty file"])
def test_what_a_kill_left_prevents_no_start_on_a_disk_that_takes_nothing(tmp_path, left):
    """Rule A16."""
    before = filled(tmp_path, 3).last
    file = only(tmp_path)
    if left == "a torn line":
        file.write_bytes(file.read_bytes() + b'{"n":4')
    else:
        (tmp_path / FOLDER / "000000000004.jsonl").touch()
    fails = [True]

    def fsync(_: int) -> None:
        if fails:
            raise OSError(30, "Read-only file system")

    again = Chain(tmp_path, lambda: NOW, fsync=fsync)
    assert (again.length, again.last) == (3, before)
    fails.clear()
    again.append("key", {})
    assert verify(tmp_path / FOLDER).last == 4


def test_a_record_the_disk_does_not_take_leaves_the_chain_as_it_was(tmp_path):
    made = filled(tmp_path, 2)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    broken = Chain(tmp_path, lambda: NOW, fsync=full)
    with pytest.raises(OSError, match="No space"):
        broken.append("key", {})
    assert verify(tmp_path / FOLDER).hash == made.last == broken.last
    assert made.append("key", {}) == verify(tmp_path / FOLDER).hash


def test_it_goes_on_in_further_files_and_the_oldest_goes(tmp_path):
    filled(tmp_path, 40, segment=1000)
    files = segments(tmp_path / FOLDER)
    assert len(files) > 5
    verdict = verify(tmp_path / FOLDER)
    assert (verdict.first, verdict.last) == (1, 40)
    files[0].unlink()
    assert verify(tmp_path / FOLDER).first > 1
    files[2].unlink()
    with pytest.raises(Broken):
        verify(tmp_path / FOLDER)


def test_the_folder_is_bounded_also_where_nobody_receipts(tmp_path):
    """Rule O27."""
    made = filled(tmp_path, 300, segment=200)
    assert len(segments(tmp_path / FOLDER)) == 256
    assert made.thinned == 44
    assert verify(tmp_path / FOLDER).hash == made.last


def test_what_is_old_goes_only_once_a_later_hash_was_receipted(tmp_path):
    """Rule O27."""
    now = [NOW]
    made = Chain(tmp_path, lambda: now[0], fsync=lambda _: None, segment=200)
    hashes = [made.append("key", {"n": n}) for n in range(20)]
    now[0] = time.time() + KEPT_FOR + 60
    made.append("key", {})
    assert verify(tmp_path / FOLDER).first == 1
    made.receipted(hashes[9])
    made.receipted("0" * 64)
    made.append("key", {})
    assert verify(tmp_path / FOLDER).first == 10
    again = Chain(tmp_path, lambda: now[0], fsync=lambda _: None, segment=200)
    again.receipted(hashes[3])
    again.append("key", {})
    assert verify(tmp_path / FOLDER).first == 10
    assert again.thinned == 0


def test_what_others_cause_pushes_out_what_is_old_and_receipted_only(tmp_path):
    """Rule O28."""
    now = [time.time()]
    made = Chain(tmp_path, lambda: now[0], fsync=lambda _: None, segment=200)
    while made.has_room_for_senders:
        last = made.append("object.accepted", {"n": made.length})
    assert len(segments(tmp_path / FOLDER)) == OTHERS_SEGMENTS
    made.receipted(last)
    assert not made.has_room_for_senders
    now[0] += 367 * 86_400
    assert made.has_room_for_senders
    (tmp_path / FOLDER / RECEIPTED).unlink()
    assert not Chain(
        tmp_path, lambda: now[0], fsync=lambda _: None, segment=200
    ).has_room_for_senders


def test_the_last_of_a_type_is_found_in_earlier_files_too(tmp_path):
    made = chain(tmp_path, segment=1000)
    made.append("registry", {"revision": 7})
    for n in range(30):
        made.append("other", {"n": n})
    assert chain(tmp_path, segment=1000).latest("registry") == {"revision": 7}
    assert chain(tmp_path, segment=1000).latest("never") is None


def test_a_damaged_chain_is_set_aside_and_stops_nothing(tmp_path):
    """Rule O29."""
    filled(tmp_path)
    file = only(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"0192-2", b"0192-9"))
    again = chain(tmp_path)
    assert again.length == 1
    assert verify(tmp_path / FOLDER).last == 1
    assert list(tmp_path.glob("audit.damaged-*"))


def test_the_canonical_form_is_that_of_rfc_8785():
    # section 3.2.3 of the RFC: members in the order of UTF-16 code units
    """Rule O25."""
    names = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    order = [2, 4, 6, 7, 1, 5, 3]
    assert [json.loads(canonical(names))[k] for k in json.loads(canonical(names))] == order
    assert canonical({"b": [True, None, -0], "a": '\u20ac\n\x0f"\\/'}) == (
        '{"a":"€\\n\\u000f\\"\\\\/","b":[true,null,0]}'.encode()
    )
    for wrong in (0.5, 2**53, {1: 2}, {"a": object()}):
        with pytest.raises(ValueError):
            canonical(wrong)
