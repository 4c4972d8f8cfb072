"""What a newcomer finds in the form: on any simulated bench the first click on Run shows a chip learn."""

from __future__ import annotations

from typing import Any

import pytest
from neurobench.gui.bench.remembered import FIRST_PROTOCOL, Remembered, first_settings
from neurobench.gui.bench.run_panel import RunPanel

from neurobench.runs.preview import preview
from neurobench.runs.request import Request, prepare


@pytest.fixture
def panel(qtbot: Any, qt: str) -> RunPanel:
    made = RunPanel(None, Remembered())
    qtbot.addWidget(made)
    qtbot.waitUntil(lambda: made.form is not None)
    return made


def test_what_nobody_has_set_suits_the_bench(panel: RunPanel) -> None:
    assert panel.settings() == {"task": "letters"}
    assert "Set for a first run" in panel.about.text()
    panel.choose_bench("fpga-sim")
    assert panel.settings() == {"task": "letters", "read_v": 0.01}
    assert "converter" in panel.about.text(), "and it is said why"
    panel.show_bench("visa-sim", {})
    assert panel.settings() == {"task": "letters"}
    assert panel.form is not None
    panel.form.set_values({"task": "letters", "max_updates": 7})
    panel.choose_bench("fpga-sim")
    assert panel.settings() == {"task": "letters", "max_updates": 7}, "what somebody has set stays"
    assert "first run" not in panel.about.text()


@pytest.mark.parametrize("bench", ["emulator", "fpga-sim"])
def test_it_learns_there(bench: str) -> None:
    found = preview(Request(FIRST_PROTOCOL, bench, first_settings(bench)))
    assert (found["status"], found["updates"] >= 5) == ("finished", True)


def test_it_fits_the_matrix_of_the_simulated_instruments() -> None:
    bench = prepare(Request(FIRST_PROTOCOL, "visa-sim", first_settings("visa-sim"))).bench
    assert bench.chip.rows + bench.chip.cols <= 72


def test_nothing_is_set_for_a_real_bench() -> None:
    assert first_settings("visa") == {}
