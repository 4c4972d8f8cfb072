"""The queue of runs, as pure functions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from neurobench.gui.session import waiting

from neurobench.runs.request import Request

REQUEST = Request("read-all")


def queue_of(n: int) -> waiting.Queue:
    queue: waiting.Queue = ()
    for _ in range(n):
        queue = waiting.added(queue, REQUEST)
    return queue


@given(st.integers(1, 8), st.integers(0, 7), st.integers(-10, 10))
def test_moving_keeps_every_entry_and_the_order_of_the_others(n: int, at: int, by: int) -> None:
    queue = queue_of(n)
    chosen = queue[at % n]
    moved = waiting.moved(queue, chosen.id, by)
    assert [one for one in moved if one is not chosen] == [one for one in queue if one is not chosen]
    assert moved.index(chosen) == min(max(at % n + by, 0), n - 1)


@given(st.integers(1, 8), st.integers(0, 7))
def test_a_double_stands_behind_its_original_under_a_number_of_its_own(n: int, at: int) -> None:
    queue = queue_of(n)
    twice = waiting.added(queue, REQUEST, behind=queue[at % n].id)
    assert len({one.id for one in twice}) == n + 1
    assert twice[at % n + 1].id not in {one.id for one in queue}


def test_the_next_is_the_first_that_waits() -> None:
    queue = waiting.ended(queue_of(3), 1, "finished")
    found = waiting.next_waiting(queue)
    assert found is not None
    assert found.id == 2
    assert waiting.next_waiting(waiting.ended(waiting.ended(queue, 2, "aborted"), 3, "running")) is None
