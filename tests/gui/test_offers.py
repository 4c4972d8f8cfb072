"""A run that can go on if something is accepted: what is offered, to whom, and what the word for it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from neurobench.gui.bench.offer_panel import OfferPanel
from neurobench.gui.session.offers import Offer, offer_of
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import BenchState
from PySide6.QtCore import Qt

from neurobench.runs.runfile import RunFile, RunWriter

WHY = "step 7: 3 shots were fired, and nobody can tell whether the next one was"


@pytest.fixture
def session(tmp_path: Path, qapp: Any) -> Iterator[Session]:
    one = Session(tmp_path)
    yield one
    one.shutdown()


def ended(path: Path, **said: Any) -> Offer | None:
    with RunWriter.create(path, {"chip_id": "A17", "simulated": False}) as writer:
        writer.put(status="fault", **said)
    with RunFile.open(path) as run:
        return offer_of(run)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"error": f"PulseUnknown: {WHY}", "doubt": {"shot": 3}}, "doubt"),
        ({"error": "PulseUnknown: step 7, a loop, was cut off"}, None),
        ({"error": "BaselineMoved: cell (1, 2) has moved by 9 sigma"}, "baseline"),
        ({"error": "ResumeRefused: the run was recorded with another limits"}, None),
        ({"error": None}, None),
    ],
)
def test_only_what_can_be_accepted_is_offered(said: dict[str, Any], what: str | None, tmp_path: Path) -> None:
    offer = ended(tmp_path / "a.nbr", **said)
    assert (offer and offer.what) == what
    if offer is not None:
        assert (offer.chip_id, offer.simulated) == ("A17", False)
        assert offer.command.endswith(f"a.nbr --accept-{what}")


def test_on_a_real_chip_its_name_is_the_word_for_it(
    session: Session, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, dict[str, bool]]] = []
    monkeypatch.setattr(session, "go_on", lambda path, **accepted: asked.append((path, accepted)) or True)
    session.offer = ended(tmp_path / "a.nbr", error=f"PulseUnknown: {WHY}", doubt={"shot": 3})
    panel = OfferPanel(session)
    qtbot.addWidget(panel)
    session._stand(BenchState.FAULT)
    panel.show()
    stands: list[bool] = []
    panel.offers.connect(stands.append)
    assert WHY in panel.words.text()
    assert "not fired again" in panel.words.text()
    panel.typed.setText("A17")
    assert not panel.accept.isEnabled()
    assert "acknowledge" in panel.accept.toolTip(), "first the fault"
    session.state = BenchState.READY
    session.state_changed.emit(session.state)
    panel.typed.setText("A18")
    assert not panel.accept.isEnabled()
    qtbot.keyClick(panel.typed, Qt.Key.Key_Return)
    assert not asked, "another chip"
    panel.typed.setText("A17")
    qtbot.mouseClick(panel.accept, Qt.MouseButton.LeftButton)
    assert asked == [(tmp_path / "a.nbr", {"accept_doubt": True, "accept_baseline": False})]
    assert panel.typed.text() == "", "it is typed for each time"
    qtbot.mouseClick(panel.later, Qt.MouseButton.LeftButton)
    assert not panel.isVisible()
    assert stands[-1] is False
