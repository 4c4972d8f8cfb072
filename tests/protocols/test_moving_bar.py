"""moving-bar: the direction is learned, from time and not from place, alike on every bench, and after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.protocols._moving_bar_streams import Sample, labels_of, streams_of
from neurobench.protocols.moving_bar import MovingBar, _State, _Task

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply, Checkpoint, Result, Sense
from neurobench.errors import CapabilityMissing, Refused, ResumeRefused, UsageError
from neurobench.interchange import event_files
from neurobench.learning.events import EventStream
from neurobench.learning.statistics import rasters
from neurobench.runs import figures, launch, runner
from neurobench.runs.request import prepare, request
from neurobench.runs.runfile import MemoryRecord, RunFile

SMALL: dict[str, Any] = {"directions": 2, "pixels": 4, "train": 24, "test": 24, "epochs": 4}
# What fpga-sim is by its file, said of the emulator: the converters of its board.
SAME = {"readout.adc_bits": 24, "readout.adc_range_a": 1e-5, "readout.dac_bits": 16, "readout.dac_range_v": 0.65534}
TIMES = {"cost"}  # what is told of time is compared nowhere


def opened(
    bench: str = "emulator", chip: dict[str, Any] | None = None, seed: int = 0, **parameters: Any
) -> tuple[MovingBar, Guard]:
    protocol = MovingBar(**parameters)
    return protocol, open_bench(load_bench(bench, chip or {}, protocol.bench_defaults()), seed)


def learned(*args: Any, seed: int = 0, **parameters: Any) -> dict[str, Any]:
    """The result of a run, with whether its goal was reached."""
    protocol, guard = opened(*args, seed=seed, **parameters)
    try:
        outcome = runner.run(protocol, guard, seed=seed, record=MemoryRecord())
    finally:
        guard.close()
    if outcome.error is not None:
        raise outcome.error
    assert outcome.result is not None
    return {**outcome.result, "reached": outcome.status == "finished"}


# ------------------------------------------------------------------ it learns, and what it learns is the order in time


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return learned()


def test_four_directions_are_learned_far_beyond_chance_and_the_untrained_weights(whole: dict[str, Any]) -> None:
    assert whole["reached"]
    assert whole["accuracy"] >= 0.9
    assert whole["accuracy_untrained"] <= 0.4
    assert whole["chance"] == 0.25


def test_a_run_ends_by_what_was_learned_from_and_the_goal_is_a_matter_of_what_was_held_out() -> None:
    protocol = {**SMALL, "stop_accuracy": 0.6}
    early, late = learned(goal_accuracy=0.5, **protocol), learned(goal_accuracy=1.0, **protocol)
    assert early["online_accuracy_per_epoch"] == late["online_accuracy_per_epoch"]
    assert early["online_accuracy_per_epoch"][-1] >= 0.6 > max(early["online_accuracy_per_epoch"][:-1], default=0.0)
    assert early["accuracy"] == late["accuracy"] < 1.0
    assert (early["reached"], late["reached"]) == (True, False)


def test_without_the_order_of_the_ticks_the_same_weights_know_nothing(whole: dict[str, Any]) -> None:
    # 80 streams at chance: 0.25 +- 0.05, so 0.45 is four standard deviations
    assert whole["accuracy_shuffled"] < 0.45


def test_the_confusion_counts_are_those_of_the_accuracy(whole: dict[str, Any]) -> None:
    counts = whole["confusion"]
    assert counts.sum() == whole["test_streams"] == 80
    assert np.trace(counts) / counts.sum() == whole["accuracy"]
    assert (counts.sum(axis=1) == 20).all()  # every direction as often


def test_each_neuron_prefers_the_pixels_that_its_bar_reaches_last(whole: dict[str, Any]) -> None:
    weights = whole["weights"].reshape(8, 8, 4)
    y, x = np.mgrid[:8, :8] - 3.5
    ways = {"right": x, "down": y, "left": -x, "up": -y}
    for n, label in enumerate(whole["labels"]):
        slopes = {name: float((weights[:, :, n] * way).sum()) for name, way in ways.items()}
        assert max(slopes, key=lambda name: slopes[name]) == label


@pytest.mark.parametrize(("model", "writes"), [("lsmo-gaq3", "set_only"), ("threshold-exponential", "set_reset")])
def test_other_devices_learn_too(model: str, writes: str) -> None:
    found = learned("emulator", {"chip.model": model}, directions=2, train=40, test=40, rate=0.01)
    assert found["accuracy"] >= 0.9
    assert found["writes"] == writes


def test_seeds_give_different_runs_and_one_seed_the_same() -> None:
    one, again, other = (learned(seed=seed, **SMALL) for seed in (1, 1, 2))
    assert one["pulses_per_epoch"] == again["pulses_per_epoch"] != other["pulses_per_epoch"]
    np.testing.assert_array_equal(one["weights"], again["weights"])


# ------------------------------------------------------------------ on every bench


def test_the_simulated_board_learns_the_same_run() -> None:
    here, there = learned("fpga-sim", None, **SMALL), learned("emulator", SAME, **SMALL)
    assert here["accuracy"] >= 0.9
    assert here["reached"]
    assert here["multiply"] == "array"
    for key in set(here) - TIMES:
        np.testing.assert_equal(here[key], there[key], err_msg=key)


def test_simulated_instruments_learn_with_two_by_two_pixels() -> None:
    found = learned("visa-sim", None, directions=2, pixels=2, train=12, test=12, epochs=3, goal_accuracy=0.8)
    assert found["accuracy"] >= 0.8
    assert found["multiply"] == "host"


def test_the_ammeters_range_decides_how_many_volts_read() -> None:
    wide, narrow = learned(**SMALL), learned("emulator", SAME, **SMALL)
    assert wide["read_v"] == 0.1
    # 9 uA over a largest conductance of 316 uS and the pixels that spike together, at most 16
    assert 9e-6 / (16 * 316e-6) <= narrow["read_v"] < 9e-6 / 316e-6
    with pytest.raises(UsageError, match="leave the ammeter's range"):
        learned("emulator", SAME, read_v=0.1, **SMALL)


def test_an_array_that_is_too_small_is_refused() -> None:
    with pytest.raises(CapabilityMissing, match="64 x 8"):
        learned("emulator", {"chip.rows": 32})


# ------------------------------------------------------------------ the rule


def test_a_reward_credits_the_winner_by_how_late_a_pixel_spiked() -> None:
    protocol, guard = opened(**SMALL)
    state = _State(key=0)
    task = _Task(protocol, guard.view(), streams_of(protocol, 0), state)
    raster = np.zeros((4, 16), np.bool_)
    raster[0, 5], raster[3, 7], raster[[1, 2], 9] = True, True, True
    credit = task.credit(Sample(raster, 0), 1, 1.0)
    guard.close()
    tick, tau, rate = protocol.tick_s, protocol.tau_s, protocol.rate
    # the winner spikes one tick after the stream, the reward comes one tick later: exp(-tick / 1 s) of it is left
    expected = rate * np.exp(-np.array([4, 1, 2]) * tick / tau) * np.exp(-tick)
    np.testing.assert_allclose(credit[[5, 7, 9], 1], expected, rtol=1e-12)
    assert np.count_nonzero(credit) == 3
    np.testing.assert_allclose(task.credit(Sample(raster, 0), 1, -1.0), -credit)


def test_every_pixel_spikes_for_every_direction_so_that_place_says_nothing() -> None:
    protocol = MovingBar(train=40, test=40)
    streams = streams_of(protocol, 3)
    for label in range(4):
        seen = np.sum([s.raster.any(axis=0) for s in streams.train + streams.test if s.label == label], axis=0)
        assert (seen >= 0.9 * 20).all()
    repeated = streams_of(protocol, 3)
    assert all((a.raster == b.raster).all() for a, b in zip(streams.train, repeated.train, strict=True))
    assert not any(a.raster.tobytes() == b.raster.tobytes() for a in streams.train for b in streams.test)


# ------------------------------------------------------------------ going on


def driven(protocol: MovingBar, guard: Guard, start: Any = None) -> tuple[Result, list[Any]]:
    """Run on a Guard by hand; keep every step, and the chip at the checkpoints."""
    steps, answer, log = protocol.steps(guard.view(), np.random.default_rng(0), start), None, []
    seq = guard.raw._last_seq  # type: ignore[attr-defined]
    while True:
        try:
            step: Any = steps.send(answer)
        except StopIteration as end:
            return end.value, log
        answer = None
        if isinstance(step, Apply):
            seq += 1
            guard.stage(seq, step.stimulus)
            answer = guard.fire(seq)
        elif isinstance(step, Sense):
            answer = guard.sense(step.read)
        log.append((step, guard.snapshot() if isinstance(step, Checkpoint) else None))


def test_starting_from_any_checkpoint_equals_the_whole_run() -> None:
    protocol, guard = opened(**SMALL)
    whole, log = driven(protocol, guard)
    found = [(step, chip) for step, chip in log if isinstance(step, Checkpoint)]
    assert len(found) >= 2
    for step, chip in found[:2]:
        guard.restore(chip)
        rest, _ = driven(protocol, guard, step.state)
        for name in set(whole.values) - TIMES:
            np.testing.assert_equal(rest.values[name], whole.values[name], err_msg=name)
    guard.close()


# ------------------------------------------------------------------ what is recorded


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run file of a small run."""
    asked = request("moving-bar", settings=[f"{name}={value}" for name, value in SMALL.items()])
    path, error = launch.launch(prepare(asked), tmp_path_factory.mktemp("runs"))
    assert error is None
    return path


def test_the_notes_tell_the_spikes_of_streams_one_after_the_other(recorded: Path) -> None:
    with RunFile.open(recorded) as run:
        layers = rasters([note.value for note in run.notes("spikes")])
        epochs = [note.value for note in run.notes("epoch")]
        activity = run.notes("activity")[-1].value
    assert (layers["input"].neurons, layers["direction"].neurons) == (16, 2)
    assert len(layers["input"].spans) == 1, "the streams adjoin"
    assert len(layers["direction"].tick) == 6  # three streams of each direction, one decision each
    assert np.asarray(activity["counts"]).shape == (4, 4)
    assert [epoch["index"] for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert np.asarray(epochs[-1]["weights"]).shape == (16, 2)
    assert np.asarray(epochs[-1]["conductance_s"]).shape == (16, 4)


def test_every_figure_that_it_promises_is_drawn(recorded: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    drawn = figures.draw(recorded, tmp_path, MovingBar.figures)
    assert [path.stem.removeprefix(f"{recorded.stem}-") for path in drawn] == list(MovingBar.figures)


# ------------------------------------------------------------------ recorded streams


def test_recordings_in_folders_are_learned_from(tmp_path: Path) -> None:
    rng, sides = np.random.default_rng(4), {".npz": 20, ".aedat": 128, ".bin": 34}  # AEDAT tells sizes of sensors only
    for label, angle_deg in (("east", 0.0), ("west", 180.0)):
        (tmp_path / label).mkdir()
        for n in range(24):
            ending, side = list(sides.items())[n if n < 3 else 0]
            velocity = 12 * side * rng.uniform(0.8, 1.2)
            stream = EventStream(side, side).moving_bar(1.2 * side / velocity, velocity, angle_deg, side / 8)
            event_files.write(tmp_path / label / f"{n:02}{ending}", stream)
    found = learned(events=str(tmp_path), pixels=4, train=24, test=24, epochs=5)
    assert found["labels"] == ["east", "west"]
    assert found["streams"] == str(tmp_path)
    assert found["accuracy"] >= 0.9
    assert found["accuracy_shuffled"] < 0.9


def test_a_run_does_not_go_on_with_other_recordings(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for n in range(2):
            event_files.write(tmp_path / label / f"{n}.npz", EventStream(8, 8).moving_bar(0.1, 200.0))
    protocol, guard = opened(events=str(tmp_path), pixels=4, train=2, test=2, epochs=1, stop_accuracy=1.0)
    _, log = driven(protocol, guard)
    state = next(step.state for step, _ in log if isinstance(step, Checkpoint))
    event_files.write(tmp_path / "a" / "0.npz", EventStream(8, 8).moving_bar(0.1, 200.0, 90.0))
    with pytest.raises(ResumeRefused, match="not those that this run began with"):
        next(protocol.steps(guard.view(), np.random.default_rng(0), state))
    guard.close()


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ({}, "0 folders"),
        ({"one": 3}, "1 folders"),
        ({"one": 3, "two": 1}, "1 files of class 'two'; 1 for train = 2 and 1 for test = 2 are needed"),
    ],
)
def test_folders_that_do_not_serve_are_refused_in_words(tmp_path: Path, folders: dict[str, int], said: str) -> None:
    for label, n in folders.items():
        (tmp_path / label).mkdir()
        for k in range(n):
            event_files.write(tmp_path / label / f"{k}.npz", EventStream(8, 8).moving_bar(0.1, 200.0))
    protocol = MovingBar(events=str(tmp_path), train=2, test=2)
    with pytest.raises(UsageError, match=said):
        streams_of(protocol, 0)


def test_what_cannot_be_learned_from_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder with one folder"):
        labels_of(MovingBar(events=str(tmp_path / "nowhere")))
    with pytest.raises(UsageError, match="no 8 x 8 pixels"):
        streams_of(MovingBar(sensor=4, pixels=8), 0)
    with pytest.raises(UsageError, match="raise tick_s"):
        streams_of(MovingBar(tick_s=1e-5), 0)


def test_a_chip_with_most_of_its_cells_dead_is_refused() -> None:
    protocol, guard = opened(**SMALL)
    view = guard.view()
    guard.close()
    protocol.admit(view)
    with pytest.raises(Refused, match="64 of the 64 cells of this task are excluded"):
        protocol.admit(replace(view, excluded=np.ones(view.shape, np.bool_)))
