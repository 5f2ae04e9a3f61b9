"""Requests and answers by the examples of the standard (135-2020, annex F)."""

from decimal import Decimal

import pytest

from agent.drivers.bacnet import codec
from agent.drivers.bacnet.codec import GarbledError, ObjectId, Ref, Refusal, chunks, size

AI5 = ObjectId(0, 5)


def test_read_property_as_in_annex_f():
    assert codec.read_request(Ref(AI5, 85)).hex() == "0c000000051955"  # F.3.5
    answer = bytes.fromhex("0c0000000519553e444290999a3f")
    assert codec.read_answer(answer, Ref(AI5, 85)) == (Decimal("72.3"),)
    with pytest.raises(GarbledError):
        codec.read_answer(answer, Ref(ObjectId(0, 6), 85))
    with pytest.raises(GarbledError):
        codec.read_answer(answer, Ref(AI5, 85, 1))


def test_read_property_multiple_as_in_annex_f():
    asked = [Ref(ObjectId(0, 16), 85), Ref(ObjectId(0, 16), 103)]  # F.3.7
    assert codec.read_multiple(asked).hex() == "0c000000101e095509671f"
    answer = bytes.fromhex("0c000000101e29554e444290999a4f29674e91004f1f")
    assert codec.read_multiple_answer(answer) == {
        asked[0]: (Decimal("72.3"),),
        asked[1]: (Decimal(0),),
    }
    several = [Ref(ObjectId(0, n), 85) for n in (33, 50, 35)]
    assert codec.read_multiple(several).hex() == (
        "0c000000211e09551f0c000000321e09551f0c000000231e09551f"
    )
    answer = bytes.fromhex(
        "0c000000211e29554e444228 00004f1f0c000000321e29555e9101911f5f1f"
        "0c000000231e29554e4443d9d99a4f1f".replace(" ", "")
    )
    read = codec.read_multiple_answer(answer)
    assert read[several[1]] == Refusal("unknown object", 31)
    assert read[several[2]] == (Decimal("435.7"),)


def test_write_property_as_in_annex_f():
    value = bytes.fromhex("4443340000")
    asked = codec.write_request(Ref(ObjectId(2, 1), 85), value, None)
    assert asked.hex() == "0c0080000119553e44433400003f"  # F.3.9
    assert codec.write_request(Ref(ObjectId(2, 1), 85), b"\0", 13).hex().endswith("3e003f490d")


def test_subscriptions_and_notifications_as_in_annex_f():
    asked = codec.subscribe(18, ObjectId(0, 10), 60)
    assert asked.hex() == "09121c0000000a2901393c"  # F.1.10 but for confirmed notifications
    assert codec.subscribe(18, ObjectId(0, 10), None).hex() == "09121c0000000a"
    said = codec.notification(
        bytes.fromhex("09121c020000042c0000000a39004e09552e44428200002f096f2e8204002f4f")
    )
    assert (said.process, said.device, said.object) == (18, 4, ObjectId(0, 10))
    assert said.values == {85: (Decimal(65),), 111: ("0000",)}


def test_who_is_and_i_am_as_in_annex_f():
    assert codec.who_is(3, 3).hex() == "09031903"  # F.4.10
    said = codec.i_am(bytes.fromhex("c4020000032201e0910321 63".replace(" ", "")))
    assert said == (3, 480, 3, 99)


@pytest.mark.parametrize("room", [30, 60, 200, 1464])
def test_chunks_cover_everything_once_in_order_and_fit(room):
    refs = [Ref(ObjectId(0, n), p) for n in range(100) for p in (85, 111)]
    made = list(chunks(refs, room))
    assert [ref for chunk in made for ref in chunk] == refs
    assert all(size(chunk) <= room for chunk in made)
    assert len(list(chunks(refs, 1464))) == 2


def test_one_object_that_fits_no_room_goes_alone():
    refs = [Ref(ObjectId(8, 1), p) for p in range(50)] + [Ref(ObjectId(0, 1), 85)]
    assert [len(chunk) for chunk in chunks(refs, 100)] == [50, 1]
