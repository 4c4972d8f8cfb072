"""Figures are drawn from the run file alone, say SIMULATED, and never mix read-back and truth."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurobench.errors import UsageError
from neurobench.runs import figures, launch
from neurobench.runs.figures import FIGURES, History, Series
from neurobench.runs.request import prepare, request

pytest.importorskip("matplotlib")

SEEDS = ["conductances", "weights", "activations", "error", "bars"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    asked = request("manhattan", settings=["preset=seed", "max_updates=4"])
    return launch.launch(prepare(asked), tmp_path_factory.mktemp("runs"))[0]


def history(rows: int = 4, cols: int = 4, patterns: int = 10, updates: int = 5, simulated: bool = True) -> History:
    rng, at = np.random.default_rng(0), np.arange(1.0, updates + 1)
    g_s = 5e-7 + 1e-8 * rng.random((updates, rows, cols))
    activations = rng.uniform(-1, 1, (updates, patterns, 2))
    targets = np.where(rng.random((patterns, 2)) > 0.5, 0.8, -0.8)
    weights = g_s[:, :, ::2] - g_s[:, :, 1::2]
    error, empty = Series(at, 10 / at), Series(at, g_s * 1.5)
    return History(
        "a run", simulated, error, Series(at, activations), Series(at, g_s), Series(at, weights), targets, empty
    )


def lines(axes: Any) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]


def words(figure: Any) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_every_figure_of_the_seed_is_drawn(run: Path, tmp_path: Path) -> None:
    drawn = figures.draw(run, tmp_path / "new")
    assert [path.name for path in drawn] == [f"{run.stem}-{name}.png" for name in (*SEEDS, "training")]
    for path in drawn:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5000


def test_one_figure_and_the_truth_only_when_asked(run: Path, tmp_path: Path) -> None:
    assert len(figures.draw(run, tmp_path, ["truth"])) == 1
    with pytest.raises(UsageError, match="did you mean error"):
        figures.draw(run, tmp_path, ["errors"])


def test_history_is_what_was_noted(run: Path) -> None:
    found = figures.read_history(run)
    assert found.error.at.tolist() == [1, 2, 3, 4]
    assert found.conductance_s.at.tolist()[-4:] == [1, 2, 3, 4]
    assert found.conductance_s.values.shape == (len(found.conductance_s.at), 4, 4)
    assert found.weights_s.values.shape == (len(found.weights_s.at), 4, 2)
    assert found.activations.values.shape == (4, 6, 2)
    assert found.simulated is True
    assert found.targets is not None
    assert set(np.abs(found.targets).ravel()) == {0.8}


def test_a_panel_for_every_device_with_its_values() -> None:
    said = history()
    figure: Any = FIGURES["conductances"](said)
    panels = figure.get_axes()
    assert len(panels) == 16
    for n, panel in enumerate(panels):
        x, y = lines(panel)[0]
        i, j = divmod(n, 4)
        assert panel.get_title() == f"row {i}, column {j}"
        assert x == said.conductance_s.at.tolist()
        assert y == pytest.approx(said.conductance_s.values[:, i, j] * 1e9)
    assert figure.get_supylabel() == "G (nS)"


def test_targets_stand_in_every_pattern() -> None:
    said = history()
    figure: Any = FIGURES["activations"](said)
    panel = figure.get_axes()[3]
    drawn = lines(panel)
    assert [y for _, y in drawn[:2]] == [said.activations.values[:, 3, k].tolist() for k in range(2)]
    assert said.targets is not None
    assert [y[0] for _, y in drawn[2:4]] == said.targets[3].tolist()


def test_truth_is_in_its_own_figure_only() -> None:
    said = history()
    for name in SEEDS:
        figure: Any = FIGURES[name](said)
        assert "truth" not in figure.get_suptitle().lower()
        for panel in figure.get_axes():
            assert all(max(y) < 700 for _, y in lines(panel)), "the truth of this history lies above 700 nS"
    figure = FIGURES["truth"](said)
    assert "truth" in figure.get_suptitle()


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_is_said(tmp_path: Path, simulated: bool) -> None:
    said = history(simulated=simulated)
    for name in (*SEEDS, "truth"):
        figure: Any = FIGURES[name](said)
        figures._saved(figure, said, tmp_path / f"{name}.png")
        assert ("SIMULATED" in words(figure)) is simulated


@pytest.mark.parametrize("shape", [(1, 2), (65, 20), (8, 8), (40, 40)])
def test_any_size(shape: tuple[int, int], tmp_path: Path) -> None:
    said = history(*shape, patterns=100)
    for name in SEEDS:
        figure: Any = FIGURES[name](said)
        figures._saved(figure, said, tmp_path / f"{name}.png")


def test_a_run_without_notes_draws_nothing() -> None:
    empty = Series(np.empty(0), np.empty(0))
    nothing = History("none", True, empty, empty, empty, empty, None, empty)
    assert [make(nothing) for make in FIGURES.values()] == [None] * len(FIGURES)


def test_a_run_that_tells_nothing_shows_what_it_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a session by hand: its journal holds reads, and no note that another figure is drawn from."""
    path = launch.launch(prepare(request("read-all", settings=["repeats=3"])), tmp_path)[0]
    assert [file.name for file in figures.draw(path, tmp_path)] == [f"{path.stem}-reads.png"]
    found = figures.reads_of(path)
    assert found.at.tolist() == [1, 2, 3]
    with figures.RunFile.open(path) as run:
        told = np.array([note.value for note in run.notes("conductance_s")])
    np.testing.assert_allclose(found.values, told)
    monkeypatch.setattr(figures, "MOST_READ", 20)
    assert figures.reads_of(path).at.tolist() == [1, 3], "of too many some are left out, and never the last"


def test_cells_that_were_not_read_yet_hide_no_others() -> None:
    values = np.full((3, 12, 12), np.nan)
    values[0, 0], values[1, 1], values[2, 2] = 1e-6, 2e-6, 3e-6
    figure: Any = figures.read_figure(replace(history(), read_s=Series(np.arange(1.0, 4), values)))
    middle = next(line for line in figure.axes[0].get_lines() if line.get_label() == "median")
    assert np.isfinite(middle.get_ydata()).all()


def test_a_missing_extra_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"neurobench-hil\[plot\]"):
        figures.draw(run, tmp_path)


def test_units_keep_numbers_readable() -> None:
    for largest, unit in ((3e-10, "pS"), (5e-7, "nS"), (2e-5, "µS"), (0.02, "mS"), (2.0, "S")):
        factor, named = figures.si_scale(np.array([largest]))
        assert named == unit
        assert 1 <= largest * factor < 1000


def test_weights_of_single_cells_are_not_called_differential() -> None:
    from matplotlib.text import Text

    grids = Series(np.arange(2.0), np.full((2, 3, 1), 1e-6))
    empty = Series(np.zeros(0), np.zeros(0))
    one = History("t", True, empty, empty, empty, grids, None, empty)
    for history, words in ((one, "Differential"), (replace(one, single_cells=True), "single cells above the floor")):
        figure = figures.weight_figure(history)
        assert figure is not None
        assert words in "".join(text.get_text() for text in figure.findobj(Text))
