"""What a run has shown: the same for every way of reading its file, and what the file itself says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurobench.bench.crossbar import Reading, Witness, conductance_s
from neurobench.bench.limits import Limits, exposure
from neurobench.bench.steps import Apply, LoopAnswer, Sense
from neurobench.bench.stimulus import CellRead, PulseBatch, Shape, Waveforms
from neurobench.learning.statistics import rasters
from neurobench.runs import feed, figures, history, launch
from neurobench.runs.history import Follower, Snapshot, Traces
from neurobench.runs.request import prepare, request
from neurobench.runs.runfile import Entry, NoteRow, RunFile, RunWriter

RUNS: Mapping[str, tuple[str, list[str], str]] = {
    "seed": ("manhattan", ["preset=seed", "max_updates=6"], "emulator"),
    "improved": ("manhattan", [], "emulator"),
    "digits": ("digits", ["epochs=1", "classes=3", "samples=12", "test_samples=9"], "emulator"),
    "coincidence": ("coincidence", ["presentations=20"], "emulator"),
    "window": ("stdp-window", ["repeats=1", "dt_s=[0.001,-0.002,0.005]"], "emulator"),
    "sweep": ("iv-sweep", ["cycles=1"], "emulator"),
    "curve": ("measure-curve", ["pulses=5", "cycles=1"], "emulator"),
    "form": (
        "form",
        ["confirm_chip_id=emulated-0", "stop_v=3.0", "stop_current_a=1e-4", "stop_conductance_s=2e-5"],
        "emulator",
    ),
    "read": ("read-all", [], "emulator"),
    "visa": ("manhattan", ["preset=seed", "max_updates=2"], "visa-sim"),
    "board": ("manhattan", ["preset=seed", "max_updates=2"], "fpga-sim"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


_made: dict[tuple[Path, str], Path] = {}


@pytest.fixture
def run(folder: Path, request: pytest.FixtureRequest) -> Path:
    return made(folder, request.param)


def made(folder: Path, name: str) -> Path:
    if (folder, name) not in _made:
        protocol, asked, bench = RUNS[name]
        _made[folder, name] = launch.launch(prepare(request(protocol, settings=asked, bench=bench)), folder / name)[0]
    return _made[folder, name]


every_run = pytest.mark.parametrize("run", list(RUNS), indirect=True)


def whole(path: Path) -> Follower:
    """A follower that has read all there is."""
    follower = Follower(path)
    while follower.read():
        pass
    return follower


def one_by_one(path: Path) -> Iterator[Snapshot]:
    """How the run stood after every single row."""
    follower = Follower(path, budget_s=0.0)
    while follower.read():
        yield follower.snapshot()
    yield follower.snapshot()
    follower.close()


@dataclass(frozen=True)
class Seen:
    """A trace or a band as numbers to compare."""

    at_s: Any
    values: Any


def comparable(value: Any, seq: int) -> Any:
    """Anything in a snapshot as plain values; nan equals nan."""
    if isinstance(value, Traces):
        return [comparable(Seen(*found), seq) for found in (value.trace([(0, 0)], seq), value.band(seq))]
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: comparable(getattr(value, field.name), seq) for field in fields(value)}
        return {"kind": type(value).__name__, **named}
    if isinstance(value, np.ndarray):
        return "array", value.shape, np.nan_to_num(value, nan=-1.25).tolist()
    if isinstance(value, Mapping):
        return {str(key): comparable(item, seq) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(item, seq) for item in value]
    return "nan" if isinstance(value, float) and value != value else value


def plain(snapshot: Snapshot) -> Any:
    found = comparable(snapshot, snapshot.seq)
    for line in found["recent"]:
        line["at_s"] = round(line["at_s"], 9)
    return found


# ---------------------------------------------------------------------------------------------- one truth


@every_run
def test_it_does_not_matter_how_the_file_is_read(run: Path) -> None:
    steps = list(one_by_one(run))
    with_ease = whole(run)
    assert plain(steps[-1]) == plain(with_ease.snapshot())
    assert len(steps) > with_ease.snapshot().last_seq
    for step in steps[:: max(1, len(steps) // 25)]:
        assert plain(with_ease.snapshot(step.seq)) == plain(step)
    with_ease.close()


@every_run
def test_going_back_and_forth_gives_the_same(run: Path) -> None:
    follower = whole(run)
    last = follower.snapshot().seq
    forth = [plain(follower.snapshot(seq)) for seq in range(0, last, max(1, last // 20))]
    back = [plain(follower.snapshot(seq)) for seq in reversed(range(0, last, max(1, last // 20)))]
    assert forth == back[::-1]
    assert follower.snapshot(last).seq == follower.snapshot(None).seq == follower.snapshot(last + 7).seq == last
    assert follower.snapshot(-1).recent == ()


@pytest.mark.parametrize("run", ["seed", "coincidence", "digits", "visa"], indirect=True)
@pytest.mark.parametrize(("rows", "keys"), [(2, 3), (3, 8), (7, 64)])
def test_it_does_not_matter_how_much_is_fetched_and_kept(
    run: Path, rows: int, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = whole(run)
    last = usual.snapshot().seq
    wanted = {seq: plain(usual.snapshot(seq)) for seq in [*range(0, last, max(1, last // 20)), last]}
    monkeypatch.setattr(feed, "ROWS", rows)
    monkeypatch.setattr(history, "KEY_ROWS", 4)
    monkeypatch.setattr(history, "MOST_KEYS", keys)
    follower = whole(run)
    for seq in np.random.default_rng(rows).permutation(list(wanted)).tolist():
        assert plain(follower.snapshot(seq)) == wanted[seq]
    assert plain(follower.snapshot()) == wanted[last]


@pytest.mark.parametrize("run", ["seed"], indirect=True)
def test_earlier_steps_are_kept_evenly_and_in_a_fixed_number(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 5
    for name, value in (("KEY_ROWS", 1), ("KEY_S", 1e9), ("MOST_KEYS", most)):
        monkeypatch.setattr(history, name, value)
    follower, numbers = history.Follower(run, 0.0), []
    while follower.read():
        numbers.append(len(follower._keys))
    costs = np.array([key.cost for key in follower._keys])
    assert set(numbers[most:]) == {most}
    assert costs[0] == 0
    assert len(numbers) > 4 * most
    assert np.diff(costs).max() < 2.5 * costs[-1] / most
    follower.close()


@every_run
def test_cells_and_costs_are_those_of_the_journal(run: Path) -> None:
    with RunFile.open(run) as file:
        entries, manifest = list(file.entries()), file.manifest
    found = whole(run).snapshot()
    ups, downs = counted(entries, found.about.shape, manifest)
    np.testing.assert_array_equal(found.cells.ups + found.cells.downs, ups + downs)
    # where both lines jump at one instant the books assume the worse order, which a look at samples does not see
    np.testing.assert_allclose(found.cells.ups, ups, atol=1 if found.about.protocol == "coincidence" else 0)
    np.testing.assert_array_equal(found.cells.conductance_s, last_read(entries, found.about.shape))
    np.testing.assert_array_equal(found.cells.first_s, last_read(entries[::-1], found.about.shape))
    np.testing.assert_array_equal(found.cells.before_s, last_read(entries, found.about.shape, but=1))
    totals = manifest["totals"]
    assert (found.energy.pulses, found.energy.reads) == (totals["pulses"], totals["reads"])
    assert str(found.energy.pulses_j) == str(totals["energy_j"])
    assert str(found.energy.reads_j) == str(totals["read_energy_j"])
    assert found.last_seq == found.seq == manifest["last_seq"]


def counted(entries: list[Entry], shape: tuple[int, int], manifest: Mapping[str, Any]) -> tuple[Any, Any]:
    """Pulses of either sign, the slow way; all benches here potentiate with V_row > V_col."""
    assert manifest["capabilities"]["potentiating_sign"] == 1
    ups, downs = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for entry in entries:
        answer = entry.answer
        if isinstance(answer, LoopAnswer):
            ups += answer.potentiations
            downs += answer.depressions
        elif entry.kind == "apply":
            assert isinstance(entry.step, Apply)
            up, down = of_stimulus(entry.step.stimulus, Limits(**manifest["limits"]))
            ups += up
            downs += down
    return ups, downs


def of_stimulus(stimulus: PulseBatch | Waveforms, limits: Limits) -> tuple[Any, Any]:
    if isinstance(stimulus, PulseBatch):
        counts = stimulus.counts.astype(np.int64)
        return np.where(counts > 0, counts, 0), np.where(counts < 0, -counts, 0)
    total = exposure(stimulus, limits.max_read_v * (1 + 1e-9)).pulses
    downs = np.zeros_like(total)
    for row, col in np.argwhere(total):
        downs[row, col] = falls(stimulus, row, col, limits.max_read_v)
    return total - downs, downs


def falls(waves: Waveforms, row: int, col: int, volts: float) -> int:
    """How often V_row - V_col falls below -volts, sampled finely."""
    at_s = np.linspace(0, waves.duration_s, 40_001)

    def line(shapes: Any, starts: Any, n: int) -> Any:
        if shapes[n] < 0:
            return np.zeros(len(at_s))
        shape = waves.shapes[shapes[n]]
        return np.interp(at_s - starts[n], shape.t_s, shape.v, left=0, right=0)

    v = line(waves.row_shape, waves.row_start_s, row) - line(waves.col_shape, waves.col_start_s, col)
    return int((np.diff((v < -volts).astype(int)) > 0).sum())


def last_read(entries: list[Entry], shape: tuple[int, int], but: int = 0) -> Any:
    """The last value of every cell that was read; `but`: so many before it."""
    grids = [np.full(shape, np.nan) for _ in range(but + 1)]
    for entry in entries:
        step, answer = entry.step if entry.kind == "sense" else None, entry.answer
        if isinstance(step, Sense) and isinstance(step.read, CellRead) and isinstance(answer, Reading):
            here = step.read.mask
            for later, earlier in zip(grids[::-1], grids[-2::-1], strict=False):
                later[here] = earlier[here]
            grids[0][here] = conductance_s(answer, step.read.voltage_v)
    return grids[but]


@every_run
def test_series_and_spikes_are_those_of_the_figures(run: Path) -> None:
    said, found = figures.read_history(run), whole(run).snapshot()
    assert found.about.simulated is said.simulated is True
    for name, series in (
        ("error", said.error),
        ("accuracy", said.spiking.accuracy),
        ("test_accuracy", said.spiking.test_accuracy),
    ):
        assert bool(series) == (name in found.progress)
        if series:
            assert comparable(found.progress[name], 0) == comparable(series, 0)
    with RunFile.open(run) as file:
        assert comparable(found.rasters, 0) == comparable(rasters(n.value for n in file.notes("spikes")), 0)
        assert comparable(found.points, 0) == comparable([n.value for n in file.notes("point")], 0)
        assert comparable(found.branches, 0) == comparable([n.value for n in file.notes("branch")], 0)
        assert comparable(found.result, 0) == comparable(file.result, 0)
    if said.weights_s:
        assert comparable(found.weights_s, 0) == comparable(said.weights_s.values[-1], 0)
        assert found.single_cells == said.single_cells
    if said.activations:
        assert comparable(found.activations, 0) == comparable(said.activations.values[-1], 0)
    assert comparable(found.targets, 0) == comparable(said.targets, 0)
    assert (found.truth_s is not None) == bool(said.truth_s)
    if said.truth_s:
        assert comparable(found.truth_s, 0) == comparable(said.truth_s.values[-1], 0)


def test_about_says_who_and_where(folder: Path) -> None:
    about = whole(made(folder, "visa")).snapshot().about
    assert (about.protocol, about.bench, about.backend, about.simulated) == ("manhattan", "visa-sim", "visa-sim", True)
    assert (about.shape, about.seed, about.parameters["preset"]) == ((4, 4), 0, "seed")
    assert about.run_id == Path(about.path).stem
    assert about.limits["max_cell_v"] > about.limits["max_read_v"] > 0
    assert about.device.g_max_s > about.device.g_min_s >= 0
    assert about.device.pulse is not None
    assert about.excluded.shape == about.pulses_used.shape == about.pulses_allowed.shape == (4, 4)
    assert np.isinf(about.pulses_allowed).all()
    assert about.chip["polarity"] == "V_row > V_col potentiates"


def test_cells_that_are_given_up_are_out_of_use(folder: Path) -> None:
    path = made(folder, "digits")
    with RunFile.open(path) as file:
        lost = file.notes("retired")[0]
    follower = whole(path)
    assert len(lost.value["cells"]) == follower.snapshot().cells.excluded.sum() > 0
    assert not follower.snapshot(lost.seq - 1).cells.excluded.any()


def test_traces_are_what_was_read(folder: Path) -> None:
    path = made(folder, "read")
    found = whole(path).snapshot()
    at_s, traces = found.history.trace([(0, 0), (3, 1)], found.seq)
    with RunFile.open(path) as file:
        grids = np.array([note.value for note in file.notes("conductance_s")])
    np.testing.assert_allclose(traces, grids[:, [0, 3], [0, 1]], rtol=1e-6)
    assert (np.diff(at_s) > 0).all()
    assert at_s[-1] == found.cells.read_at_s[0, 0] == found.at_s
    _, band = found.history.band(found.seq)
    np.testing.assert_allclose(band, np.percentile(grids.reshape(len(grids), -1), (25, 50, 75), axis=1).T)


# ---------------------------------------------------------------------------------------------- in words


def said(path: Path) -> list[str]:
    return [line.words for line in whole(path).snapshot().recent]


def test_steps_are_told_in_one_line_each(folder: Path) -> None:
    seed, window, digits = (said(made(folder, name)) for name in ("seed", "window", "digits"))
    assert "read 16 cells at 0.1 V" in seed
    assert "multiplied 6 vectors, up to 0.1 V on the rows" in seed
    assert any(words.startswith("8 pulses +2.00 V 1 ms on 8 cells") for words in seed)
    assert any(words.startswith("note epoch 3: error ") for words in seed)
    assert any(words.startswith("waveforms of 85 ms, up to 1.00 V on 1 row and 1 column") for words in window)
    assert any(words.startswith("1 pulse −1.20 V 100 µs on 1 cell") for words in window)
    assert any(words.startswith("wait ") for words in window)
    assert any(words.startswith("loop 1000 ticks, ") and "spikes" in words for words in digits)
    assert not any("\n" in words for words in (*seed, *window, *digits))


def test_only_the_last_steps_are_told(folder: Path) -> None:
    follower = whole(made(folder, "window"))
    recent = follower.snapshot().recent
    assert len(recent) == 64
    assert [line.seq for line in recent] == sorted(line.seq for line in recent)
    assert recent[-1].seq == follower.snapshot().seq


# ---------------------------------------------------------------------------------------------- while it is written


class Copying:
    """Writes a recorded run anew, as its writer did, in pieces of any size."""

    def __init__(self, source: Path, out: Path) -> None:
        with RunFile.open(source) as file:
            manifest, self.rows = file.manifest, list(file.recorded())
            self.truth = dict(file.truth())
        self.last = {key: manifest.pop(key) for key in LAST_WORDS if key in manifest}
        manifest.pop("created")
        self.writer = RunWriter.create(out, manifest)

    def write(self, row: Entry | NoteRow, with_intent: bool) -> None:
        if isinstance(row, NoteRow):
            if row.seq in self.truth:
                self.writer.truth(row.seq, self.truth[row.seq])
            self.writer.note(row.seq, row.name, row.value)
        elif with_intent and row.kind == "apply":
            self.writer.intent(row.seq, row.step, Witness())
        else:
            self.writer.entry(row.seq, row.step, row.answer)

    def end(self) -> None:
        self.writer.put(**self.last)
        self.writer.close()


LAST_WORDS = ("status", "state", "result", "reached", "totals", "pulses", "energy_j", "last_seq", "error", "harm")


@given(data=st.data(), name=st.sampled_from(["seed", "window", "coincidence", "visa"]))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_following_while_it_is_written_ends_where_reading_it_later_ends(folder: Path, data: Any, name: str) -> None:
    source = made(folder, name)
    out = folder / f"live-{len(list(folder.glob('live-*.nbr')))}.nbr"
    copy, with_intents = Copying(source, out), data.draw(st.booleans())
    follower, seen = Follower(out, budget_s=data.draw(st.sampled_from([0.0, 1e-4, 0.02]))), -1
    for row in copy.rows:
        copy.write(row, with_intents)
        if with_intents and isinstance(row, Entry) and row.kind == "apply":
            if data.draw(st.booleans()):
                follower.read()
            copy.writer.answer(row.seq, row.answer)
        if data.draw(st.integers(0, 3)) == 0:
            copy.writer.flush()
            follower.read()
            snapshot = follower.snapshot()
            assert snapshot.live
            assert snapshot.status == "ready"
            assert seen <= snapshot.seq <= snapshot.last_seq
            seen = snapshot.seq
    copy.end()
    while follower.read():
        pass
    assert plain(follower.snapshot()) == plain(whole(out).snapshot())
    assert follower.snapshot().status == whole(source).snapshot().status
    follower.close()
    out.unlink()


def test_nothing_is_read_again_where_nothing_happened(folder: Path) -> None:
    follower = whole(made(folder, "seed"))
    assert not follower.read()
    assert follower.snapshot() is not None
    first, second = follower.snapshot(), follower.snapshot()
    for name in ("about", "cells", "progress", "rasters", "recent", "points", "notes", "truth_s", "weights_s"):
        assert getattr(first, name) is getattr(second, name), name


def test_what_was_shown_does_not_change_afterwards(folder: Path, tmp_path: Path) -> None:
    copy = Copying(made(folder, "curve"), tmp_path / "live.nbr")
    follower, kept = Follower(copy.writer.path), list[tuple[Snapshot, Any]]()
    for row in copy.rows:
        copy.write(row, False)
        copy.writer.flush()
        follower.read()
        snapshot = follower.snapshot()
        kept.append((snapshot, plain(snapshot)))
        for array in (snapshot.cells.conductance_s, snapshot.cells.ups, snapshot.cells.excluded):
            assert not array.flags.writeable
    assert all(plain(snapshot) == before for snapshot, before in kept)
    before, after = kept[-2][0].cells, kept[-1][0].cells
    assert before is after, "a checkpoint and a note change no cell"
    copy.end()


def test_a_part_that_did_not_change_is_the_same_object(folder: Path, tmp_path: Path) -> None:
    copy = Copying(made(folder, "seed"), tmp_path / "live.nbr")
    follower = Follower(copy.writer.path)
    before: Snapshot | None = None
    for row in copy.rows:
        copy.write(row, False)
        copy.writer.flush()
        follower.read()
        now = follower.snapshot()
        if before is not None and isinstance(row, Entry) and row.kind == "apply":
            assert now.cells.conductance_s is before.cells.conductance_s
            assert now.cells.ups is not before.cells.ups
            assert now.progress is before.progress
        before = now
    copy.end()


def test_waveforms_count_by_the_sign_of_their_voltage() -> None:
    spike = Shape(np.array([0, 1e-3, 1e-3, 3e-3, 3e-3, 4e-3]), np.array([0, 1, -1, -1, 0.1, 0]))
    waves = Waveforms((spike,), np.array([0, -1]), np.array([-1, 0, -1]), np.zeros(2), np.array([0, 5e-3, 0]))
    _, above, below = exposure(waves, 0.5)
    assert above.tolist() == [[1, 2, 1], [0, 1, 0]]
    assert below.tolist() == [[1, 2, 1], [0, 1, 0]]
    assert exposure(waves, 0.95).pulses.tolist() == [[2, 4, 2], [0, 2, 0]]
    lobe = Shape(np.array([0, 1e-3, 2e-3]), np.array([0, 1, 0]))
    one = Waveforms((lobe,), np.array([0, -1]), np.array([-1, 0]), np.zeros(2), np.array([0, 0.0]))
    _, above, below = exposure(one, 0.5)
    assert (above.tolist(), below.tolist()) == ([[1, 0], [0, 0]], [[0, 0], [0, 1]])
