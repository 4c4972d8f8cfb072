"""The table of states, as data."""

from __future__ import annotations

import pytest

from neurobench.runs.states import ENDS, TABLE, Control, Event, State

REQUESTS = (Event.PAUSE, Event.RESUME, Event.STOP, Event.ABORT)
LIVE = [state for state in State if state not in ENDS]


def test_every_state_has_a_row_and_ends_have_no_way_out() -> None:
    assert set(TABLE) == set(State)
    assert all(not TABLE[state] for state in ENDS)


@pytest.mark.parametrize("state", LIVE)
def test_every_live_state_can_fail_and_leads_to_an_end(state: State) -> None:
    assert TABLE[state][Event.FAILED] in ENDS
    seen, grow = {state}, [state]
    while grow:
        for to in TABLE[grow.pop()].values():
            if to not in seen:
                seen.add(to)
                grow.append(to)
    assert seen & ENDS


@pytest.mark.parametrize("state", LIVE)
def test_an_abort_is_possible_from_every_live_state_and_nothing_takes_it_back(state: State) -> None:
    to = TABLE[state].get(Event.ABORT, State.ABORTING if state is State.ABORTING else None)
    assert to in (State.ABORTING, State.ABORTED)
    assert set(TABLE[State.ABORTING].values()) == {State.ABORTED}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_what_is_not_in_the_table_does_not_happen(state: State, event: Event) -> None:
    control = Control()
    control.state = state
    taken = control.tell(event)
    assert taken == (event in TABLE[state])
    assert control.state is (TABLE[state][event] if taken else state)


def test_requests_by_name() -> None:
    control = Control()
    assert not control.pause(), "a run that has not begun cannot be paused"
    control.tell(Event.START)
    assert control.pause()
    assert control.resume()
    assert control.state is State.RUNNING
    assert control.stop()
    assert control.abort("first")
    assert not control.abort("second")
    assert control.reason == "first"
    assert control.wait_while(State.RUNNING, 0)
    assert not control.wait_for_end(0)
