"""What a scheme does to a device by the law that its card declares: the theory beside a measured window."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurobench.bench.steps import BenchView
from neurobench.bench.stimulus import FloatArray, Stimulus, Waveforms
from neurobench.errors import CapabilityMissing, NeurobenchError
from neurobench.learning.schemes import PulseScheme, SpikePairs, cell_v
from neurobench.physics.library import load_model
from neurobench.physics.response import DeviceModel

POINTS = 121  # of the curve that is drawn


def theory(scheme: PulseScheme, view: BenchView, card: str, reach_s: float, g0_s: float) -> dict[str, Any]:
    """dg_s over dt_s of a typical device of `card` that starts at g0_s; only `said` where there is no law to go by.

    The mean device: no spread, no noise. A measured card answers pulses; waveforms need the law of a rate model.
    """
    if not card:
        return {"said": "none: no device card is declared for this chip"}
    dt_s = _times(reach_s)
    try:
        model = load_model(card)
        dg_s = np.array([_change(scheme, view, model, float(one), g0_s) for one in dt_s])
    except NeurobenchError as error:
        return {"said": f"none: {error}"}
    return {"dt_s": dt_s, "dg_s": dg_s, "said": f"the scheme on the mean device of card {card}"}


def _times(reach_s: float) -> FloatArray:
    """Denser near dt = 0, where a window has its edge, and without 0 itself."""
    half = reach_s * np.linspace(0.0, 1.0, POINTS // 2 + 1)[1:] ** 2
    return np.concatenate([-half[::-1], half])


def _change(scheme: PulseScheme, view: BenchView, model: DeviceModel, dt_s: float, g0_s: float) -> float:
    """Change in siemens of one pair, in the range that is declared of this chip."""
    low_s, high_s = view.device.g_min_s, view.device.g_max_s
    u0 = (g0_s - low_s) / (high_s - low_s)
    u = u0
    cell = (0, 0)
    for one in scheme.stimuli(SpikePairs.one(view.shape, cell, dt_s), view):
        u = _after(model, view.capabilities.potentiating_sign, one, u)
    return (u - u0) * (high_s - low_s)


def _after(model: DeviceModel, sign: int, one: Stimulus, u: float) -> float:
    """State of the cell (0, 0) after a stimulus."""
    if isinstance(one, Waveforms):
        if model.rate is None:
            raise CapabilityMissing(f"device {model.name} knows single pulses; waveforms need the law of a rate model")
        seen = cell_v(one, 0, 0)
        for dose in model.rate.doses(seen.t_s, sign * seen.v):
            u = float(model.rate.moved(np.array(u), float(dose)))
        return u
    count = int(one.counts[0, 0])
    response = model.response(1 if count > 0 else -1, one.pulse.amplitude_v, one.pulse.width_s)
    for _ in range(abs(count)):
        u = min(max(float(response.step(np.array(u))), model.u_min), model.u_max)
    return u
