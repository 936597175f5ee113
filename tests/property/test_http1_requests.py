"""What the edge accepts of a client and passes on is one message, and the same one, to h11 and to llhttp."""

from __future__ import annotations

from hypothesis import event, given

from tests.fakes.http_messages import mutated, requests
from tests.fakes.http_peers import agreed_request


@given(requests())
def test_right_requests_pass(octets: bytes) -> None:
    passed = agreed_request(octets)
    assert passed is not None
    assert passed.rest == b""


@given(mutated(requests()))
def test_what_mutations_leave_acceptable_is_read_alike(octets: bytes) -> None:
    while (passed := agreed_request(octets)) is not None:
        event("passed on")
        assert len(passed.rest) < len(octets)
        octets = passed.rest
