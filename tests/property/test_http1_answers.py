"""What the edge accepts of a server and passes on is one answer, and the same one, to h11 and to llhttp."""

from __future__ import annotations

from hypothesis import event, given

from tests.fakes.http_messages import answers, mutated
from tests.fakes.http_peers import agreed_answer


@given(answers())
def test_right_answers_pass(octets: bytes) -> None:
    passed = agreed_answer(octets)
    assert passed is not None
    assert passed.rest == b""


@given(mutated(answers()))
def test_what_mutations_leave_acceptable_is_read_alike(octets: bytes) -> None:
    passed = agreed_answer(octets)
    if passed is not None:
        event("passed on")
        assert len(passed.rest) < len(octets)
