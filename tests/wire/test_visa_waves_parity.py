"""The same waveforms on the emulator and over simulated instruments: the same devices, moved by the same amount."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.drivers.emulator import Emulator, open_emulator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from visa_bench import SimulatedBench, open_simulated

from neurobench.bench.config import load_bench
from neurobench.bench.stimulus import FloatArray, Shape, Waveforms, shots
from neurobench.learning.schemes import Exponential, PulseScheme, Rectangular, SpikePairs, Triangular

MS = 1e-3
CHIP = {"chip.rows": 3, "chip.cols": 4, "chip.potentiating_sign": 1, "readout.ideal": True}  # one chip: one sign
CELL = (1, 2)
SAMPLED = 2e-3  # stairs of 1/64 of the peak, codes of 16 bits towards 0 V, an exponential law of 1/7 V


class Both:
    """One chip twice: seed, devices and settings alike."""

    def __init__(self, **chip: Any) -> None:
        overrides = {**CHIP, **{f"chip.{name}": value for name, value in chip.items()}}
        self.visa: SimulatedBench = open_simulated(overrides)
        emulator, _ = open_emulator(load_bench("emulator", overrides), 7)
        assert isinstance(emulator, Emulator)
        self.emulator, self.seq = emulator, 0
        self.told = self.emulated = 0  # pulses of the last waveforms, as either says
        assert (self.visa_s == self.emulated_s).all()

    @property
    def visa_s(self) -> FloatArray:
        found: FloatArray = self.visa.world.chip.conductance_s().copy()
        return found

    @property
    def emulated_s(self) -> FloatArray:
        found: FloatArray = self.emulator.chip.conductance_s().copy()
        return found

    def play(self, waves: Waveforms) -> tuple[FloatArray, FloatArray]:
        """What every cell moved by over VISA, and on the emulator."""
        self.seq += 1
        before = self.visa_s, self.emulated_s
        guard = self.visa.guard()
        guard.stage(self.seq, waves)
        self.told = guard.fire(self.seq).pulses
        self.emulator.stage(self.seq, shots(waves, self.emulator.capabilities))
        self.emulated = self.emulator.fire(self.seq).pulses
        assert not self.visa.world.mishaps
        assert not self.visa.world.damage
        return self.visa_s - before[0], self.emulated_s - before[1]


def pair(both: Both, scheme: PulseScheme, dt_s: float) -> Waveforms:
    (found,) = scheme.stimuli(SpikePairs.one((3, 4), CELL, dt_s), both.visa.guard().view())
    assert isinstance(found, Waveforms)
    return found


@pytest.mark.parametrize(("sign", "dts_s"), [(1, (2 * MS, -7.3 * MS)), (-1, (-2 * MS,))])
def test_a_pair_of_spikes_moves_a_rate_device_as_on_the_emulator(sign: int, dts_s: tuple[float, ...]) -> None:
    both = Both(model="threshold-exponential", potentiating_sign=sign)
    for dt_s in dts_s:
        over_visa, emulated = both.play(pair(both, Exponential(), dt_s))
        assert np.sign(over_visa[CELL]) == np.sign(dt_s)
        assert over_visa[CELL] == pytest.approx(emulated[CELL], rel=SAMPLED)
        assert np.count_nonzero(over_visa) == np.count_nonzero(emulated) == 1
        assert both.told == both.emulated == 1


@pytest.mark.parametrize("model", ["threshold-exponential", "vteam"])
def test_other_shapes_and_devices_agree_too(model: str) -> None:
    both = Both(model=model)
    for scheme, dt_s in ((Triangular(), 3 * MS), (Rectangular(), -4 * MS)):
        over_visa, emulated = both.play(pair(both, scheme, dt_s))
        assert over_visa[CELL] == pytest.approx(emulated[CELL], rel=SAMPLED)
        assert emulated[CELL] != 0


def test_thresholds_that_differ_from_device_to_device_are_felt_alike() -> None:
    both = Both(model="threshold-exponential", threshold_spread=0.1)
    over_visa, emulated = both.play(pair(both, Exponential(), 2 * MS))
    assert np.count_nonzero(emulated) > 1, "a lone spike moves those whose threshold is low"
    np.testing.assert_allclose(over_visa, emulated, rtol=10 * SAMPLED, atol=1e-9)
    assert over_visa[CELL] == pytest.approx(emulated[CELL], rel=SAMPLED)


def rectangles(volts: float, width_s: float, col_start_s: float = 0.0) -> Waveforms:
    t_s, v = np.array([0.0, 0.0, width_s, width_s]), np.array([0.0, 1.0, 1.0, 0.0]) * volts / 2
    rows, cols = np.array([-1, 0, -1]), np.array([-1, -1, 1, 1])
    return Waveforms((Shape(t_s, v), Shape(t_s, -v)), rows, cols, np.zeros(3), np.full(4, col_start_s))


def test_rectangles_move_a_measured_device_bit_for_bit() -> None:
    both = Both(model="lsmo-gaq3-mirror")
    for volts in (2.0, 2.0, -2.0, 2.0):
        t_s, v = np.array([0.0, 0.0, MS, MS]), np.array([0.0, 1.0, 1.0, 0.0]) * volts
        whole = Waveforms((Shape(t_s, v),), np.array([-1, 0, -1]), np.full(4, -1), np.zeros(3), np.zeros(4))
        over_visa, emulated = both.play(whole)  # half of it was never measured, so the whole line sees all of it
        assert (over_visa == emulated).all()
        assert np.count_nonzero(over_visa) == both.told == both.emulated == 4


def test_rectangles_of_equal_volts_move_a_rate_device_as_exactly_as_time_is_kept() -> None:
    both = Both(model="threshold-exponential")
    for volts, later_s in ((1.9, 0.0), (-1.8, 0.2 * MS), (1.7, 0.7 * MS)):
        over_visa, emulated = both.play(rectangles(volts, MS, later_s))
        np.testing.assert_allclose(over_visa, emulated, rtol=1e-9, atol=1e-20)
        assert np.count_nonzero(over_visa) == 2


def test_what_a_measured_device_has_no_answer_to_is_not_played_on_the_emulator_and_counted_over_visa() -> None:
    """Instruments play what they are told; that nobody knows what it did to a measured device is kept (rule 14)."""
    both = Both(model="lsmo-gaq3-mirror")
    triangle = Shape(np.array([0.0, MS / 2, MS]), np.array([0.0, 1.9, 0.0]))
    waves = Waveforms((triangle,), np.array([0, -1, -1]), np.full(4, -1), np.zeros(3), np.zeros(4))
    with pytest.raises(Exception, match="rate"):
        both.emulator.stage(1, shots(waves, both.emulator.capabilities))
    guard = both.visa.guard()
    guard.stage(1, waves)
    guard.fire(1)
    assert both.visa.world.unknown_stress > 0
