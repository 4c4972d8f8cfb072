"""What may be asked for in which state: every action in every state, on every page, in the table and in the window."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from neurobench.gui.frame.actions import ACTIONS, GROUPS, MODES, Actions, keys_table, possible
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import LIVE, TABLE, BenchState, Event, after
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QWidget

if TYPE_CHECKING:
    from collections.abc import Iterator

S = BenchState
# Beside the program's own table, on purpose: what an operator must be able to rely on, written down once more.
NEVER_WHILE_LIVE = {"run", "queue.start", "disconnect"}
HALTS = {S.RUNNING, S.PAUSING, S.PAUSED}
EXPECTED: dict[str, set[S]] = {
    "run": {S.READY},
    "queue.start": {S.READY},
    "pause": HALTS,
    "stop": HALTS,
    "abort": {*LIVE, S.CONNECTING},
    "acknowledge": {S.FAULT},
    "keep_running": {*LIVE} - {S.ABORTING},
    "disconnect": {S.READY, S.FAULT, S.CONNECTING},
    "read_selection": {S.READY, S.STARTING, S.RUNNING, S.PAUSED},
    "pulse_up": {S.READY, S.STARTING, S.RUNNING, S.PAUSED},
    "pulse_down": {S.READY, S.STARTING, S.RUNNING, S.PAUSED},
}


@pytest.fixture
def actions(qt: str, qtbot: Any, tmp_path: Path) -> Iterator[tuple[Session, Actions]]:
    session, window = Session(tmp_path), QWidget()
    qtbot.addWidget(window)
    yield session, Actions(session, window)
    session.shutdown()


@pytest.mark.parametrize("state", list(BenchState))
def test_every_action_in_every_state_on_every_page(actions: tuple[Session, Actions], state: BenchState) -> None:
    session, made = actions
    session.state = state
    session.state_changed.emit(state)
    for page in MODES:
        made.show_page(page)
        enabled = {action.name for action, one in made if one.isEnabled()}
        expected = {
            action.name
            for action in ACTIONS
            if state in EXPECTED.get(action.name, set(S)) and (not action.page or page in action.page.split())
        }
        assert enabled == expected, (state, page)


@pytest.mark.parametrize("state", sorted(LIVE))
def test_what_is_live_can_be_aborted_and_nothing_else_can_begin(state: BenchState) -> None:
    allowed = {action.name for action in ACTIONS if possible(action, state)}
    assert "abort" in allowed
    assert not allowed & NEVER_WHILE_LIVE


@pytest.mark.parametrize("state", sorted(S))
def test_what_is_possible_leads_somewhere(state: BenchState) -> None:
    """An action that is enabled is one that the table of states knows a way for."""
    asks = {"run": Event.START, "stop": Event.STOP, "acknowledge": Event.ACKNOWLEDGE, "disconnect": Event.DISCONNECT}
    for name, event in asks.items():
        action = next(one for one in ACTIONS if one.name == name)
        assert possible(action, state) == (after(state, event) is not None), (name, state)
    pause = next(one for one in ACTIONS if one.name == "pause")
    ways = {after(state, Event.PAUSE), after(state, Event.RESUME)} - {None}
    assert possible(pause, state) == bool(ways)
    assert state in LIVE or state is S.CONNECTING or Event.ABORT not in TABLE[state]


def test_every_key_means_one_thing() -> None:
    keys = Counter(QKeySequence(action.keys).toString() for action in ACTIONS if action.keys)
    assert [key for key, times in keys.items() if times > 1] == []
    assert all(QKeySequence(action.keys).toString() for action in ACTIONS if action.keys), "a key that Qt does not know"
    assert len({action.name for action in ACTIONS}) == len(ACTIONS)


def test_every_action_says_what_it_does_and_has_its_menu() -> None:
    for action in ACTIONS:
        assert action.text
        assert len(action.tip) > 10
        assert action.group in GROUPS
        assert set(action.page.split()) <= set(MODES)


def test_a_key_in_vain_says_why(actions: tuple[Session, Actions]) -> None:
    session, made = actions
    assert "no bench is connected" in made.explain(QKeySequence("F5"))
    session.state = S.READY
    session.state_changed.emit(S.READY)
    assert made.explain(QKeySequence("F5")) == ""
    assert "nothing is running" in made.explain(QKeySequence("F6"))
    made.show_page("runs")
    assert "Characterise" in made.explain(QKeySequence("R"))


def test_the_docs_hold_the_table_of_keys(checkout: Path) -> None:
    page = (checkout / "docs" / "window.md").read_text(encoding="utf-8")
    assert keys_table() in page
    assert not re.search(r"[ \t]+$", page, re.MULTILINE)
