"""What every crossbar owes to whoever uses it, run over every backend there is.

A test may use the contract alone, and `count`, the look behind the bench's back. It knows no backend by name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pytest
from backends import BACKENDS, SHAPE, Backend

from neurobench.bench.crossbar import Applied, Capabilities, Crossbar, Done, NotDone, Outcome, Reading, Unknown, Witness
from neurobench.bench.limits import Guard
from neurobench.bench.passport import Passport
from neurobench.bench.stimulus import (
    Bias,
    CellRead,
    Direction,
    FloatArray,
    LineState,
    Pulse,
    PulseBatch,
    Read,
    Region,
    Shape,
    Stimulus,
    VectorRead,
    Waveforms,
    shots,
)
from neurobench.errors import CapabilityMissing, LinkLost, NeurobenchError

T = TypeVar("T")
ALL = np.ones(SHAPE, bool)
ROUNDED = 1e-4  # share of the read's volts that a voltage converter may round away
ATTEMPTS = 200  # 0.36 of what is asked over a lossy fake fails; it does not 200 times in a row


@dataclass
class Bench:
    """A backend under test, with the patience that its link needs."""

    backend: Backend
    crossbar: Crossbar
    counted: Callable[[], int] | None
    seq: int = 0

    def ask(self, question: Callable[[], T]) -> T:
        """Ask again what sends no volts, until an answer comes back."""
        for _ in range(ATTEMPTS):
            try:
                return question()
            except LinkLost:
                pass
        raise AssertionError("no answer at all")

    @property
    def has(self) -> Capabilities:
        return self.crossbar.capabilities

    def count(self) -> int:
        """Pulses that the cells really had."""
        if self.counted is None:
            pytest.skip("nobody can look behind this bench's back")
        return self.counted()

    def batch(self, counts: Any, bias: Bias = Bias.HALF) -> PulseBatch:
        return PulseBatch(np.broadcast_to(np.asarray(counts, np.int16), SHAPE), self.backend.pulse, bias)

    def stage(self, seq: int, stimulus: Stimulus) -> Witness:
        return self.ask(lambda: self.crossbar.stage(seq, shots(stimulus, self.has)))

    def outcome(self, seq: int, witness: Witness) -> Outcome:
        return self.ask(lambda: self.crossbar.outcome(seq, witness))

    def fire(self, stimulus: Stimulus) -> Applied | Unknown:
        """The rule of delivery: stage, trigger once, and settle a lost reply by asking."""
        self.seq += 1
        for _ in range(ATTEMPTS):
            witness = self.stage(self.seq, stimulus)
            try:
                return self.crossbar.fire(self.seq)
            except LinkLost:
                found = self.outcome(self.seq, witness)
            if isinstance(found, Done):
                return found.applied
            if isinstance(found, Unknown):
                return found
        raise AssertionError("never fired")

    def sense(self, read: Read) -> Reading:
        return self.ask(lambda: self.crossbar.sense(read))

    def cells(self, averages: int = 64, **more: Any) -> tuple[FloatArray, float]:
        """Conductances [rows, cols] of one read of all cells, and the standard deviation of each."""
        volts = self.backend.read_v
        reading = self.sense(CellRead(ALL, volts, averages=averages, **more))
        return reading.signed_a().reshape(SHAPE) / volts, reading.sigma_a / volts


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    backend: Backend = request.param
    if backend.missing:
        pytest.skip(backend.missing)
    opened = backend.open()
    found = Bench(backend, opened.crossbar, opened.count)
    yield found
    found.crossbar.close()


# ------------------------------------------------------------------ who it is


def test_it_says_what_it_can_do(bench: Bench) -> None:
    has = bench.has
    assert has.shape == SHAPE
    assert has.biases, "a bench that can half-select in no way cannot write a passive array"
    assert has.min_width_s <= bench.backend.pulse.width_s <= has.max_width_s
    assert bench.backend.pulse.amplitude_v <= has.max_pulse_v
    assert min(has.source_ohm, has.series_ohm) >= 0
    assert has == bench.has, "constant while open"
    assert bench.has.refusal(bench.batch(1)) is None


def test_it_says_who_it_is_and_whether_it_is_simulated(bench: Bench) -> None:
    who = bench.ask(bench.crossbar.identity)
    assert who.backend
    assert who.chip_id
    assert isinstance(who.simulated, bool)
    assert (bench.crossbar.truth_s() is None) or who.simulated, "only a simulated chip has a truth to tell"


def test_a_simulated_chip_that_can_be_turned_back_is_turned_back(bench: Bench) -> None:
    kept = bench.crossbar.snapshot()
    if kept is None:
        with pytest.raises(CapabilityMissing):
            bench.crossbar.restore(b"a snapshot")
        return
    assert bench.ask(bench.crossbar.identity).simulated
    before, _ = bench.cells(averages=1)
    bench.fire(bench.batch(3))
    bench.crossbar.restore(kept)
    again, _ = bench.cells(averages=1)
    assert (again == before).all(), "the same operations from a snapshot give the same bits"


# ------------------------------------------------------------------ stage, fire, outcome


def test_staging_sends_no_volts_and_may_be_repeated(bench: Bench) -> None:
    before = bench.count()
    g_s, sigma_s = bench.cells()
    witness = [bench.stage(5, bench.batch(1)) for _ in range(4)][-1]
    assert bench.count() == before
    now_s, _ = bench.cells()
    assert np.abs(now_s - g_s).max() <= 8 * sigma_s + 1e-9 * g_s.max()
    witness = bench.stage(5, bench.batch(1))  # what a read in between may have displaced
    assert bench.outcome(5, witness) == NotDone()


def test_a_pulse_is_sent_once_per_number(bench: Bench) -> None:
    for sign in (1, -1, 1, 1):
        before, batch = bench.count(), bench.batch(sign * 2)
        told = bench.fire(batch)
        once = bench.count() - before
        assert once == 24 if isinstance(told, Applied) else once in (0, 24)
        for _ in range(3):  # whatever it answers, there is no second pulse
            try:
                again = bench.crossbar.fire(bench.seq)
            except NeurobenchError:
                continue
            assert again == told or isinstance(told, Unknown)
        assert bench.count() - before == 24 if isinstance(told, Applied) else bench.count() - before in (0, 24)


def test_a_number_that_was_never_staged_is_not_fired(bench: Bench) -> None:
    before = bench.count()
    with pytest.raises(NeurobenchError):
        bench.crossbar.fire(77)
    assert bench.count() == before


def test_what_is_staged_last_is_what_is_fired(bench: Bench) -> None:
    before = bench.count()
    bench.stage(1, bench.batch(9))
    told = bench.fire(bench.batch([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1]]))
    if isinstance(told, Applied):
        assert told.pulses == 2
        assert bench.count() - before == 2


def test_nothing_to_do_is_done_without_a_pulse(bench: Bench) -> None:
    before = bench.count()
    told = bench.fire(bench.batch(0))
    assert isinstance(told, Unknown) or (told.pulses, told.shots_done) == (0, 0)
    assert bench.count() == before


def test_applied_says_what_was_done(bench: Bench) -> None:
    batch = bench.batch([[1, 2, 0, -1], [0, 0, 0, 0], [1, 1, 1, 1]])
    told = bench.fire(batch)
    if isinstance(told, Unknown):
        assert 0 <= told.shot <= len(shots(batch, bench.has))
        assert told.why
        return
    assert told.shots_done == len(shots(batch, bench.has))
    assert told.pulses == 8
    assert told.energy_j >= 0 or (np.isnan(told.energy_j) and told.energy_basis == "unknown")


def spikes(bench: Bench, row_v: float, col_v: float) -> Waveforms:
    """Rectangles of the backend's pulse width on word line 1 and bit line 2, volts towards potentiation."""
    width_s, sign = bench.backend.pulse.width_s, bench.has.potentiating_sign
    shapes = [Shape(np.array([0, 0, width_s, width_s]), np.array([0, sign * v, sign * v, 0])) for v in (row_v, col_v)]
    rows, cols = np.full(SHAPE[0], -1), np.full(SHAPE[1], -1)
    rows[1], cols[2] = 0, 1
    return Waveforms(tuple(shapes), rows, cols, np.zeros(SHAPE[0]), np.zeros(SHAPE[1]))


def test_a_waveform_is_played_once_and_is_one_pulse_of_the_cell_that_it_meets(bench: Bench) -> None:
    if bench.has.distinct_shapes < 2 or not bench.backend.lone_v:
        pytest.skip("no waveforms, or devices of which nobody knows what moves none of them")
    half, before, (was_s, sigma_s) = bench.backend.pulse.amplitude_v / 2, bench.count(), bench.cells()
    for n in (1, 2):
        told = bench.fire(spikes(bench, half, -half))
        assert isinstance(told, Applied)
        assert (told.shots_done, told.pulses) == (1, 1)
        assert told.end_s > told.start_s
        assert bench.count() - before == n
        assert bench.ask(lambda: bench.crossbar.fire(bench.seq)) == told
        assert bench.count() - before == n
    change, step_s = bench.cells()[0] - was_s, bench.cells()[0][1, 2] - was_s[1, 2]
    assert step_s > 10 * max(sigma_s, 1e-9)
    change[1, 2] = 0
    assert np.abs(change).max() < max(8 * sigma_s, ROUNDED * was_s.max())


def test_lone_spikes_move_nothing(bench: Bench) -> None:
    if bench.has.distinct_shapes < 2 or not bench.backend.lone_v:
        pytest.skip("no waveforms, or devices of which nobody knows what moves none of them")
    volts, before, (was_s, sigma_s) = bench.backend.lone_v, bench.count(), bench.cells()
    assert volts > bench.backend.pulse.amplitude_v / 2
    for row_v, col_v in ((volts, 0.0), (0.0, volts), (-volts, 0.0), (0.0, -volts)):
        told = bench.fire(spikes(bench, row_v, col_v))
        assert isinstance(told, Applied)
        assert (told.shots_done, told.pulses) == (1, 0)
    assert bench.count() == before
    np.testing.assert_allclose(bench.cells()[0], was_s, rtol=0, atol=max(8 * sigma_s, ROUNDED * was_s.max()))


def test_the_outcome_of_a_pulse_is_what_was_answered(bench: Bench) -> None:
    for _ in range(5):
        bench.seq += 1
        witness = bench.stage(bench.seq, bench.batch(1))
        try:
            told = bench.crossbar.fire(bench.seq)
        except LinkLost:
            continue
        found = bench.outcome(bench.seq, witness)
        if bench.has.delivery == "exactly_once":
            assert found == Done(told)
        else:
            assert not isinstance(found, NotDone), "a pulse that was fired is never called not done"


def test_what_was_never_asked_for_was_not_done(bench: Bench) -> None:
    """Without a witness a bench may only say that it does not know: it may have been restarted since."""
    witness = bench.stage(1, bench.batch(1))
    found = bench.outcome(9, witness)
    assert found == NotDone() or (bench.has.delivery == "at_most_once" and isinstance(found, Unknown))


def test_books_and_pulses_agree_over_a_link_that_loses(bench: Bench) -> None:
    """Forty steps by the rule of delivery: what was answered is what the chip saw; doubt is declared, and bounded."""
    before, sure, doubtful = bench.count(), 0, 0
    rng = np.random.default_rng(0)
    for _ in range(40):
        counts = rng.integers(-2, 3, SHAPE)
        told = bench.fire(bench.batch(counts))
        if isinstance(told, Applied):
            assert told.pulses == np.abs(counts).sum()
            sure += told.pulses
        else:
            doubtful += int(np.abs(counts).sum())
    assert sure <= bench.count() - before <= sure + doubtful
    if bench.has.delivery == "exactly_once":
        assert doubtful == 0


# ------------------------------------------------------------------ direction


def moved(bench: Bench, counts: FloatArray) -> FloatArray:
    """Change of conductance in standard deviations of the difference of two reads."""
    before_s, sigma_s = bench.cells(averages=256)
    told = Unknown(0, "")
    for _ in range(ATTEMPTS):  # where a doubt is possible, until it is certain that it was done
        told = bench.fire(bench.batch(counts))
        if isinstance(told, Applied):
            break
    now_s, _ = bench.cells(averages=256)
    return (now_s - before_s) / max(sigma_s * 2**0.5, 1e-15)


def test_potentiating_raises_and_depressing_lowers_the_conductance(bench: Bench) -> None:
    """Whatever `potentiating_sign` is: only the bench turns a direction into volts."""
    left = np.zeros(SHAPE, int)
    left[:, :2] = 20
    up = moved(bench, left)
    assert up[:, :2].mean() > 5
    assert (up[:, :2] > 0).mean() >= 0.9
    down = moved(bench, -left)
    assert down[:, :2].mean() < -5
    assert (down[:, :2] < 0).mean() >= 0.9
    assert abs(down[:, 2:].mean()) < abs(down[:, :2].mean()) / 3


# ------------------------------------------------------------------ reads


def test_both_polarities_are_kept_raw(bench: Bench) -> None:
    if not bench.has.both_polarities:
        pytest.skip("this bench reads at one polarity")
    volts = bench.backend.read_v
    reading = bench.sense(CellRead(ALL, volts, averages=64))
    assert reading.currents_a.shape == (2, ALL.sum())
    assert (reading.currents_a[0] > 0).all()
    assert (reading.currents_a[1] < 0).all()
    turned = bench.sense(CellRead(ALL, -volts, averages=64))
    assert (turned.currents_a[0] < 0).all()
    assert (reading.signed_a() / volts > 0).all()
    tolerance = 8 * reading.sigma_a + ROUNDED * np.abs(reading.currents_a).max()
    assert np.abs(reading.signed_a() + turned.signed_a()).max() <= tolerance


def test_one_polarity_is_one_polarity(bench: Bench) -> None:
    reading = bench.sense(CellRead(ALL, bench.backend.read_v, both_polarities=False))
    assert reading.currents_a.shape == (1, ALL.sum())


def test_selected_cells_are_read_row_by_row(bench: Bench) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[2, 0] = mask[0, 3] = True
    bench.fire(bench.batch([[0, 0, 0, 9], [0, 0, 0, 0], [0, 0, 0, 0]]))
    volts = bench.backend.read_v
    some = bench.sense(CellRead(mask, volts, averages=256))
    every_s, sigma_s = bench.cells(averages=256)
    assert some.currents_a.shape == (2, 2)
    assert some.signed_a() / volts == pytest.approx([every_s[0, 3], every_s[2, 0]], rel=1e-9, abs=10 * sigma_s)


def test_a_reading_carries_what_a_reader_must_know(bench: Bench) -> None:
    reading = bench.sense(CellRead(ALL, bench.backend.read_v))
    assert reading.sigma_a >= 0 or np.isnan(reading.sigma_a)
    assert reading.range_a > np.abs(reading.currents_a).max()
    assert reading.energy_j >= 0 or np.isnan(reading.energy_j)
    assert reading.flags == ()


def test_averaging_does_not_make_a_reading_worse(bench: Bench) -> None:
    _, one_s = bench.cells(averages=1)
    _, many_s = bench.cells(averages=100)
    assert many_s <= one_s


def products(bench: Bench, direction: Direction, region: Region | None, both: bool) -> None:
    if direction not in bench.has.vector_reads:
        pytest.skip(f"this bench makes no products {direction}")
    for _ in range(3):
        bench.fire(bench.batch(np.arange(12).reshape(SHAPE) % 5))  # cells that differ
    g_s, sigma_s = bench.cells(averages=400)
    block = g_s if region is None else g_s[region.slices]
    block = block if direction is Direction.ROWS_TO_COLS else block.T
    volts = np.random.default_rng(1).uniform(-1, 1, (5, block.shape[0])) * bench.backend.read_v
    reading = bench.sense(VectorRead(volts, direction, region, both_polarities=both, averages=400))
    assert reading.currents_a.shape == (1 + both, 5, block.shape[1])
    sigma_a = np.hypot(reading.sigma_a, sigma_s * np.linalg.norm(volts, axis=1).max())
    rounded_a = ROUNDED * bench.backend.read_v * block.sum(axis=0).max()
    tolerance = 6 * sigma_a + rounded_a + offset_a(bench, both)
    assert np.abs(reading.signed_a() - volts @ block).max() <= tolerance
    assert np.abs(volts @ block).max() > 5 * tolerance, "the tolerance would hide a wrong product"


def offset_a(bench: Bench, both: bool) -> float:
    """Offset of the ammeter, which only both polarities cancel."""
    raw = bench.sense(CellRead(ALL, bench.backend.read_v, averages=400)).currents_a
    return 0.0 if both else float(np.abs(raw[0] + raw[1]).max())


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("region", [None, Region(1, 3, 0, 3)], ids=["whole", "region"])
@pytest.mark.parametrize("direction", list(Direction))
def test_a_vector_read_is_the_product_of_cell_reads(
    bench: Bench, direction: Direction, region: Region | None, both: bool
) -> None:
    products(bench, direction, region, both)


def test_reading_is_not_pulsing(bench: Bench) -> None:
    before = bench.count()
    g_s, sigma_s = bench.cells(averages=256)
    for _ in range(20):
        bench.cells(averages=1)
    now_s, _ = bench.cells(averages=256)
    assert bench.count() == before
    assert np.abs(now_s - g_s).max() <= 8 * sigma_s + 1e-9 * g_s.max()


# ------------------------------------------------------------------ rest, time, limits


def test_rest_may_be_called_at_any_time_from_any_thread(bench: Bench) -> None:
    bench.crossbar.rest()
    bench.crossbar.rest()
    bench.fire(bench.batch(1))
    before = bench.count()
    failed: list[BaseException] = []

    def other() -> None:
        try:
            bench.crossbar.rest()
        except Exception as error:  # noqa: BLE001 - it is looked at below
            failed.append(error)

    threads = [threading.Thread(target=other) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not failed
    assert not any(thread.is_alive() for thread in threads)
    assert bench.count() == before
    assert isinstance(bench.fire(bench.batch(1)), Applied | Unknown), "it works on after a rest"


def test_a_rest_disarms(bench: Bench) -> None:
    before = bench.count()
    witness = bench.stage(1, bench.batch(1))
    bench.crossbar.rest()
    with pytest.raises(NeurobenchError):
        bench.crossbar.fire(1)
    assert bench.count() == before
    assert not isinstance(bench.outcome(1, witness), Done)


def test_outputs_are_at_rest_after_a_pulse(bench: Bench) -> None:
    """An output that stayed on would go on moving the cells, or shift the reads."""
    bench.fire(bench.batch(1))
    before, (g_s, sigma_s) = bench.count(), bench.cells(averages=256)
    bench.crossbar.wait(0.02)
    now_s, _ = bench.cells(averages=256)
    bench.crossbar.rest()
    rested_s, _ = bench.cells(averages=256)
    for later_s in (now_s, rested_s):
        assert np.abs(later_s - g_s).max() <= 8 * sigma_s + 1e-9 * g_s.max()
    assert bench.count() == before


def test_time_does_not_run_back(bench: Bench) -> None:
    clock_s, ends_s = [bench.crossbar.clock_s], []
    for _ in range(3):
        told = bench.fire(bench.batch(1))
        if isinstance(told, Applied):
            assert not ends_s or told.start_s >= ends_s[-1]
            assert told.end_s >= told.start_s
            ends_s.append(told.end_s)
        clock_s.append(bench.crossbar.clock_s)
        reading = bench.sense(CellRead(ALL, bench.backend.read_v))
        assert clock_s[-1] <= reading.start_s <= reading.end_s <= bench.crossbar.clock_s
    assert clock_s == sorted(clock_s)
    before_s = bench.crossbar.clock_s
    bench.crossbar.wait(0.01)
    assert bench.crossbar.clock_s - before_s >= 0.009


def test_limits_are_programmed_as_often_as_one_likes(bench: Bench) -> None:
    for _ in range(2):
        bench.ask(lambda: bench.crossbar.enforce(bench.backend.limits))
    assert isinstance(bench.fire(bench.batch(1)), Applied | Unknown)


def test_closing_twice_is_closing(bench: Bench) -> None:
    bench.crossbar.close()


# ------------------------------------------------------------------ what it cannot do, by name


def excluded(bench: Bench) -> dict[str, Stimulus | Read]:
    """One thing for each that the capabilities exclude, under the words that must name it."""
    has, volts = bench.has, bench.backend.read_v
    shape = Shape(np.array([0.0, 1e-6, 2e-6]), np.array([0.0, volts, 0.0]))
    lines = Waveforms((shape,), np.zeros(SHAPE[0]), np.full(SHAPE[1], -1), np.zeros(SHAPE[0]), np.zeros(SHAPE[1]))
    asked: dict[str, Stimulus | Read] = {f"bias {b.value!r}": bench.batch(1, b) for b in Bias if b not in has.biases}
    for direction, n in ((Direction.ROWS_TO_COLS, SHAPE[0]), (Direction.COLS_TO_ROWS, SHAPE[1])):
        if direction not in has.vector_reads:
            asked[f"{direction} vector read"] = VectorRead(np.full((1, n), volts), direction)
    if has.distinct_shapes < 1:
        asked["waveform shapes"] = lines
    if not has.both_polarities:
        asked["both polarities"] = CellRead(ALL, volts)
    if has.isolation == "passive":
        asked["floating"] = VectorRead(np.full((1, SHAPE[0]), volts), idle=LineState.FLOATING)
    return asked


def test_what_it_cannot_do_is_refused_by_name(bench: Bench) -> None:
    guard = Guard(bench.crossbar, bench.backend.limits, Passport("c1", SHAPE))
    asked = excluded(bench)
    before = bench.count()
    for words, wrong in asked.items():
        with pytest.raises(NeurobenchError) as found:
            guard.check(wrong)
        if words == "floating" and Direction.ROWS_TO_COLS not in bench.has.vector_reads:
            continue  # already refused as a product
        assert words in str(found.value)
    assert bench.count() == before


def test_what_it_says_it_can_do_it_does(bench: Bench) -> None:
    guard = Guard(bench.crossbar, bench.backend.limits, Passport("c1", SHAPE))
    for bias in sorted(bench.has.biases & {Bias.HALF, Bias.THIRD}):
        guard.check(bench.batch(1, bias))
        bench.stage(1, bench.batch(1, bias))
    bench.crossbar.rest()


def test_a_pulse_beyond_the_limits_does_not_reach_it(bench: Bench) -> None:
    guard = Guard(bench.crossbar, bench.backend.limits, Passport("c1", SHAPE))
    pulse, before = bench.backend.pulse, bench.count()
    for wrong in (Pulse(pulse.amplitude_v * 1.1, pulse.width_s), Pulse(pulse.amplitude_v, pulse.width_s * 1.1)):
        with pytest.raises(NeurobenchError, match="max_"):
            guard.stage(1, PulseBatch(np.ones(SHAPE, np.int8), wrong))
        with pytest.raises(NeurobenchError):
            guard.fire(1)
    assert bench.count() == before
