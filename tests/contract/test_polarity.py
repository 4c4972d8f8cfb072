"""Bench rule 7 for pulse schemes: dG > 0 for t_post > t_pre on every backend, and on chips of both polarities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import conductance_s
from neurobench.bench.limits import Guard
from neurobench.bench.stimulus import CellRead, FloatArray
from neurobench.errors import CapabilityMissing
from neurobench.learning.schemes import PulseScheme, SpikePairs, scheme_of

SHAPE, CELL, DT_S = (2, 3), (0, 1), 5e-3
READ_V = 0.1
OTHERS = np.array([[True, False, True], [True, True, True]])

BENCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "emulator": ("emulator", {}),
    "emulator, column by column": ("emulator", {"bench.parallelism": "column"}),
    "visa-sim": ("visa-sim", {}),
    "visa-sim, 81160a": ("visa-sim", {"instruments.pulse.model": "keysight-81160a"}),
    "fpga-sim": ("fpga-sim", {}),
}
RATE = {"chip.model": "threshold-exponential"}
MEASURED = {"chip.model": "lsmo-gaq3-mirror"}
SCHEMES: dict[str, tuple[PulseScheme, dict[str, Any]]] = {
    "exponential": (scheme_of("exponential"), RATE),
    "rectangular": (scheme_of("rectangular", {"lead_s": 1e-3, "trail_s": 10e-3}), RATE),
    "staircase": (scheme_of("staircase", {"steps": 2, "spacing_s": 5e-3, "gate_s": 3e-3}), RATE),
    "counted": (scheme_of("counted"), RATE),
    "counted, on a measured device": (scheme_of("counted"), MEASURED),
    "time-division": (scheme_of("time-division"), RATE),
}


def opened(bench: str, chip: dict[str, Any], sign: int) -> Guard:
    name, settings = BENCHES[bench]
    shape = {"chip.rows": SHAPE[0], "chip.cols": SHAPE[1], "chip.potentiating_sign": sign}
    return open_bench(load_bench(name, {**shape, **chip, **settings}), seed=3)


def read_all(guard: Guard) -> FloatArray:
    reading = guard.sense(CellRead(np.ones(SHAPE, np.bool_), READ_V, integration_s=0.02, averages=4))
    return conductance_s(reading, READ_V).reshape(SHAPE)


def change(guard: Guard, scheme: PulseScheme, seq: int, dt_s: float) -> tuple[FloatArray, int]:
    before = read_all(guard)
    stimuli = scheme.stimuli(SpikePairs.one(SHAPE, CELL, dt_s), guard.view())
    for one in stimuli:
        guard.stage(seq, one)
        guard.fire(seq)
        seq += 1
    assert stimuli
    return read_all(guard) - before, seq


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", sorted(SCHEMES))
@pytest.mark.parametrize("bench", sorted(BENCHES))
def test_a_later_post_spike_potentiates_and_an_earlier_one_depresses(bench: str, name: str, sign: int) -> None:
    scheme, chip = SCHEMES[name]
    guard = opened(bench, chip, sign)
    try:
        if guard.capabilities.distinct_shapes < scheme.distinct_shapes:
            with pytest.raises(CapabilityMissing, match="this bench plays 0"):
                scheme.admit(guard.view())
            return
        up_s, seq = change(guard, scheme, 0, DT_S)
        down_s, _ = change(guard, scheme, seq, -DT_S)
    finally:
        guard.close()
    noise_s = max(float(np.abs(up_s[OTHERS]).max()), float(np.abs(down_s[OTHERS]).max()))
    assert up_s[CELL] > 3 * noise_s, "t_post > t_pre"
    assert down_s[CELL] < -3 * noise_s, "t_post < t_pre"
