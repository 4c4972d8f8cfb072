"""waveform preview: what lines and cells would see, with limits, as data, as text and as a figure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurobench import cli
from neurobench.errors import ConfigError, UsageError
from neurobench.runs import waves


def curve(one: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [c for c in (*one["lines"], *one["cells"]) if c.get("line", c.get("cell")) == name]
    return dict(found)


def test_cells_see_the_difference_of_their_lines_and_the_pair_alone_passes_the_threshold() -> None:
    found = waves.preview("exponential", [0.01, -0.01])
    later, earlier = (pair["stimuli"][0] for pair in found["pairs"])
    assert later["kind"] == "waveforms"
    assert curve(later, "the cell of the pair")["potentiating_v"] == pytest.approx(1.185, abs=1e-3)
    assert curve(earlier, "the cell of the pair")["depressing_v"] == pytest.approx(1.185, abs=1e-3)
    for name in ("cells on the spiking row", "cells on the spiking column"):
        alone = curve(later, name)
        assert max(alone["potentiating_v"], alone["depressing_v"]) == found["peak_v"] == 1.0
    assert not curve(later, "all other cells")["v"].any()
    assert curve(later, "every other row")["state"] == "grounded"
    row, cell = curve(later, "the row of the pre spike"), curve(later, "cells on the spiking row")
    assert (row["max_v"], row["min_v"]) == (cell["max_v"], cell["min_v"])
    assert found["limits"]["threshold_v"] == found["limits"]["lowest_threshold_v"] == 1.0
    assert found["limits"]["max_cell_v"] == 5.5
    assert found["refused"] is None


def test_a_chip_of_the_other_sign_sees_the_mirror_of_it() -> None:
    usual = waves.preview("biphasic", [0.01])
    turned = waves.preview("biphasic", [0.01], bench_settings=["chip.potentiating_sign=-1"])
    one, other = (p["pairs"][0]["stimuli"][0] for p in (usual, turned))
    for a, b in zip((*one["lines"], *one["cells"]), (*other["lines"], *other["cells"]), strict=True):
        np.testing.assert_array_equal(a["v"], -b["v"])
    assert [c["potentiating_v"] for c in one["cells"]] == [c["potentiating_v"] for c in other["cells"]]


def test_pulses_are_seen_with_their_half_select_and_their_number() -> None:
    found = waves.preview("counted", [0.01], settings=["pulses_plus=10"])
    (one,) = found["pairs"][0]["stimuli"]
    assert (one["kind"], one["repeat"]) == ("pulses", round(10 * np.exp(-0.5)))
    assert curve(one, "the cell of the pair")["max_v"] == 1.2
    assert curve(one, "cells on the spiking row")["max_v"] == curve(one, "the row of the pre spike")["max_v"] == 0.6
    third = waves.preview("counted", [0.01], bench_settings=['bench.biases=["third"]'])
    (one,) = third["pairs"][0]["stimuli"]
    assert curve(one, "all other cells")["min_v"] == pytest.approx(-0.4)
    assert curve(one, "every other column")["state"] == "driven"
    assert waves.preview("counted", [1.0])["pairs"][0]["stimuli"] == []


def test_what_would_be_refused_says_why_and_is_shown_all_the_same() -> None:
    beyond = waves.preview("rectangular", settings=["amplitude_v=1.2"])
    assert "lower the amplitudes of the scheme to 1 V at most" in beyond["refused"]
    assert beyond["pairs"][0]["stimuli"][0]["cells"]
    limited = waves.preview("exponential", bench_settings=["limits.max_cell_v=1.1"])
    assert "max_cell_v = 1.1" in limited["refused"]
    unable = waves.preview("exponential", bench="visa-sim", bench_settings=["instruments.pulse.model=keysight-81160a"])
    assert "this bench plays 0" in unable["refused"]
    assert unable["pairs"][0]["stimuli"][0]["lines"] == []
    replayed = waves.preview("exponential", bench_settings=["chip.model=lsmo-gaq3"])
    assert "replay known pulses and answer constant voltages only (bench rule 14)" in replayed["refused"]
    inside = ["amplitude_v=0.65", "tail_v=0.35", "lead_s=5e-4"]
    assert waves.preview("rectangular", [], "emulator", inside, ["chip.model=al2o3-tio2-nili"])["refused"] is None
    with pytest.raises(ConfigError, match="did you mean exponential"):
        waves.preview("exponentiell")


def test_a_single_cell_has_no_neighbours() -> None:
    lone = waves.preview("triangular", [0.01], bench_settings=["chip.rows=1", "chip.cols=1"])
    one = lone["pairs"][0]["stimuli"][0]
    assert [c["cell"] for c in one["cells"]] == ["the cell of the pair"]
    assert len(one["lines"]) == 2


@pytest.mark.parametrize("kind", ["exponential", "staircase", "counted", "time-division"])
def test_the_figure_has_a_panel_of_lines_and_one_of_cells_for_each_stimulus(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = waves.preview(kind, bench_settings=["chip.threshold_spread=0.01"])
    figure: Any = waves.waveforms_figure(found)
    played = [one for pair in found["pairs"] for one in pair["stimuli"]]
    assert len(figure.axes) == 2 * len(played)
    assert len(figure.axes[0].get_lines()) >= 4
    dashed = [line for line in figure.axes[1].get_lines() if line.get_linestyle() in ("--", ":")]
    assert {abs(line.get_ydata()[0]) for line in dashed} == {1.0, 0.97}
    assert "off the scale: max_cell_v 5.5 V" in [text.get_text() for text in figure.axes[1].texts]
    path = waves.draw(found, tmp_path / "sub" / "waves.svg")
    assert b"computed, nothing was played" in path.read_bytes() or path.stat().st_size > 1000
    with pytest.raises(UsageError, match=r"ends with .png"):
        waves.draw(found, tmp_path / "waves.txt")
    for dt_s in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="finite seconds"):
            waves.preview("exponential", [0.01, dt_s])
    with pytest.raises(UsageError, match="nothing to draw"):
        waves.draw(waves.preview("counted", [1.0]), tmp_path / "none.png")


def test_the_command_prints_the_keys_of_its_page(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["waveform", "preview", "exponential", "--dt", "0.01", "-s", "tail_v=0.3", "--json"]) == cli.OK
    said = json.loads(capsys.readouterr().out)
    page = (checkout / "docs" / "cli.md").read_text(encoding="utf-8")
    table = page.partition("`waveform preview` prints:")[2].partition("|---|---|\n")[2].partition("\n\n")[0]
    assert set(said) == {key.strip() for line in table.splitlines() for key in line.split("|")[1].split(",")}
    assert said["scheme"]["tail_v"] == 0.3
    assert said["figure"] is None
    assert set(re.findall(r"`(\w+)`", next(line for line in table.splitlines() if line.startswith("| limits")))) <= set(
        said["limits"]
    )
    assert cli.invoke(["waveform", "preview", "staircase"]) == cli.OK
    shown = capsys.readouterr().out
    assert "the row of the pre spike" in shown
    assert "lowest threshold v" in shown
    assert cli.invoke(["waveform", "preview", "stair"]) == cli.USAGE
