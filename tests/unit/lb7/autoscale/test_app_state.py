"""One app as the decider keeps it: numbers that are believed, locks, intents that are settled, back-offs."""

from __future__ import annotations

from lb7.autoscale.app_state import LAG, LAG_LOCK, SETTLE, TOLD_AGAIN, AppState, Underway
from lb7.autoscale.decide import decide
from lb7.autoscale.history import Change, History
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.samples import Reading, Samples
from lb7.autoscale.scaled_app import ScaledApp
from lb7.autoscale.shown import ShownAction
from lb7.autoscale.state import Intent, Record
from mesos_dns.model import App

KEY = ("app", "mesos", "marathon-1", "/web")
POLICY = Policy(max=9, metrics=(Metric(kind="rps", target=100),))
WALL = 1_800_000_000.0


def state(**fields: object) -> AppState:
    return AppState(Record(KEY, **fields), 0.0, WALL)  # type: ignore[arg-type]


def app(deployments: tuple[str, ...] = (), group: tuple[tuple[str, ...], ...] = ()) -> ScaledApp:
    told = App("/web", instances=2, deployments=deployments, framework_id="marathon-1")
    return ScaledApp(told, POLICY, group=group)


def ended(kept: AppState, change: Underway, outcome: Outcome, now: float = 0.0) -> None:
    kept.change = change
    kept.began(change, WALL + now)
    change.was_asked = True
    kept.ended(change, outcome, now, WALL + now)
    kept.change = None


def test_an_accepted_number_is_believed_until_the_catalog_shows_it_or_another() -> None:
    for told, later, believed in ((2, 1.0, 5), (5, 1.0, 5), (7, 1.0, 7), (2, LAG, 2)):
        kept = state()
        ended(kept, Underway(2, 5), Outcome("done", instances=5))
        assert kept.instances(told, later) == believed
    kept = state()
    ended(kept, Underway(2, 5), Outcome("changed", instances=4))
    assert (kept.instances(2, 1.0), kept.lock(app(), 1.0), kept.history.changes) == (4, "", ())


def test_what_was_done_is_counted_and_locks_for_a_moment() -> None:
    kept = state()
    ended(kept, Underway(2, 5), Outcome("done"), 7.0)
    assert kept.history.changes == (Change(WALL + 7.0, 3),)
    assert kept.intent is None
    assert kept.lock(app(), 7.1) == "2 → 5 has just begun"
    assert kept.lock(app(), 7.0 + LAG_LOCK) == ""
    # Fewer than decided were removed: that number counts.
    ended(kept, Underway(5, 1), Outcome("done", instances=3), 60.0)
    assert kept.history.changes[-1].by == -2


def test_what_was_so_already_is_not_counted_again() -> None:
    kept = state()
    ended(kept, Underway(2, 5), Outcome("done", instances=5))
    change = Underway(2, 5)  # the catalog is very late
    kept.began(change, WALL + 40.0)
    kept.ended(change, Outcome("done", "there are 5 already", 5), 40.0, WALL + 40.0)
    assert kept.history.changes == (Change(WALL, 3),)
    assert kept.instances(2, 41.0) == 5


def test_locks() -> None:
    kept = state()
    assert kept.lock(app(), 0.0) == ""
    assert "d-1" in kept.lock(app(("d-1", "d-2")), 0.0)
    assert "/green" in kept.lock(app(group=(("app", "mesos", "marathon-1", "/green"),)), 0.0)
    kept.change = Underway(2, 5)
    assert kept.lock(app(), 0.0) == "2 → 5 is being asked for"
    kept.change = Underway(5, 2)
    kept.began(kept.change, WALL)
    assert kept.lock(app(), 0.0) == "", "a decision may still take it back"


def test_back_off() -> None:
    for outcome, seconds in (
        (Outcome("locked", "by d-1"), 5.0),
        (Outcome("refused", "no", retry_after=17.0), 17.0),
        (Outcome("unreachable", retry_after=1e9), 300.0),
    ):
        kept = state()
        ended(kept, Underway(2, 5), outcome)
        assert kept.lock(app(), seconds - 1).startswith(outcome.result)
        assert kept.lock(app(), seconds) == ""
        assert kept.intent is None


def test_an_intent_is_settled_by_what_the_catalog_shows() -> None:
    intent = Intent(2, 5, WALL - 3.0, "up")
    found = state(intent=intent)
    assert "not known" in found.lock(app(), 0.0)
    assert not found.resolve(2, 1.0)
    assert found.resolve(5, 1.0)
    assert found.history.changes == (Change(WALL - 3.0, 3),)
    assert found.action is not None
    assert (found.action.state, found.intent) == ("done", None)

    for told, now in ((2, SETTLE), (4, 0.0)):
        lost = state(intent=intent)
        assert lost.resolve(told, now)
        assert lost.history == History()
        assert lost.action is not None
        assert (lost.action.state, lost.intent) == ("dropped", None)


def test_an_uncertain_outcome_keeps_the_intent() -> None:
    kept = state()
    ended(kept, Underway(2, 5), Outcome("uncertain"), 40.0)
    assert kept.intent == Intent(2, 5, WALL + 40.0, "up")
    assert not kept.resolve(2, 40.0 + SETTLE - 1)
    assert kept.resolve(2, 40.0 + SETTLE)


def test_one_that_was_given_up_is_settled_at_once() -> None:
    kept = state()
    change = Underway(5, 2)
    kept.began(change, WALL)
    kept.gave_up(change, "more load", 3.0, WALL + 3.0)
    assert kept.resolve(5, 3.0)
    assert kept.action is not None
    assert (kept.action.state, kept.intent) == ("given-up", None)


def test_what_the_leader_before_did_last_is_believed() -> None:
    done = ShownAction(WALL - 5.0, 2, 5, "done")
    assert state(action=done).instances(2, 1.0) == 5
    assert state(action=ShownAction(WALL - 500.0, 2, 5, "done")).instances(2, 1.0) == 2
    assert state(action=ShownAction(WALL - 5.0, 2, 5, "locked")).instances(2, 1.0) == 2


def test_a_reason_that_comes_and_goes_is_told_once_in_a_while() -> None:
    kept = state()

    def news(value: float, wall: float) -> bool:
        samples = Samples(instances=2, readings={"rps": Reading(value=value, at=wall)})
        return kept.decided(decide(samples, POLICY, kept.history, wall), POLICY, wall)

    assert news(200.0, WALL)
    assert not news(200.0, WALL + 5)
    assert news(900.0, WALL + 10)
    assert not news(200.0, WALL + 15)
    assert not news(200.0, WALL + TOLD_AGAIN)
    assert kept.decision is not None
    assert kept.record() == Record(KEY, kept.history, None, kept.decision, None)


def test_the_policy_with_what_holds_beside_it() -> None:
    kept = state()
    assert kept.policy(POLICY, False, False) is POLICY
    paused = kept.policy(POLICY, True, False)
    assert (paused.paused, paused.dry_run) == (True, False)
    assert kept.policy(POLICY, True, False) is paused
    assert kept.policy(POLICY, False, True).dry_run
