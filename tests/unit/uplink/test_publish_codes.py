"""Rule T24."""

import pytest

from agent.core.errors import BatchRejected, NotStored
from agent.uplink.base import NobodyThere, judge_publish


def test_only_a_plain_yes_means_that_the_broker_took_it():
    judge_publish(0x00)


def test_no_matching_subscribers_is_no_success():
    with pytest.raises(NobodyThere):
        judge_publish(0x10)


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0xFF])
def test_a_refusal_that_may_pass_is_not_stored(code):
    with pytest.raises(NotStored):
        judge_publish(code)


def test_what_an_operator_can_put_right_is_said():
    with pytest.raises(NotStored, match="may not publish"):
        judge_publish(0x87)
    with pytest.raises(NotStored, match="disk is full"):
        judge_publish(0x97)


def test_a_refused_payload_is_rejected_for_good():
    with pytest.raises(BatchRejected):
        judge_publish(0x99)
