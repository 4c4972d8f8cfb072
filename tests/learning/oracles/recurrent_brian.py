"""Brian2 does the job of recurrent_job.py: spikes, weights and time as JSON on the last line (`make oracles`).

The documented form of pair STDP (brian2.readthedocs.io, examples/synapses.STDP) with a delay on its presynaptic
pathway, which is an axonal one. `--standalone` builds C++ code; `run_s` is then Brian's own `_last_run_time`, which
leaves out the compiler, the start of the process and the loading of the input.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

import brian2 as b2
import numpy as np
import recurrent_job as common

MODEL = """w : 1
dapre/dt = -apre / tau : 1 (event-driven)
dapost/dt = -apost / tau : 1 (event-driven)"""


def network(job: common.Job, base: float) -> tuple[b2.Network, b2.Synapses, b2.SpikeMonitor]:
    """Neurons, synapses and a record of spikes; `base`: what a weight of 0 still conducts."""
    b2.defaultclock.dt = common.TICK_S * b2.second
    tau = common.TAU_S * b2.second
    neurons = b2.NeuronGroup(
        len(job.bias), "dv/dt = (bias - v) / tau : 1 (unless refractory)\nbias : 1", threshold="v >= 1", reset="v = 0",
        method="exact", refractory=common.REFRACTORY_S * b2.second, namespace={"tau": tau},
    )  # fmt: skip
    neurons.bias, neurons.v = job.bias, job.membrane
    synapses = b2.Synapses(
        neurons, neurons, MODEL,
        on_pre="v_post += gain * (w + base)\napre += 1\nw = clip(w - down * apost, 0, 1)",
        on_post="apost += 1\nw = clip(w + up * apre, 0, 1)",
        namespace={"tau": tau, "gain": job.gain, "up": common.UP, "down": common.DOWN, "base": base},
    )  # fmt: skip
    synapses.connect(i=job.origin, j=job.target)
    synapses.w = job.weights
    synapses.pre.delay = common.DELAY_S * b2.second
    monitor = b2.SpikeMonitor(neurons)
    return b2.Network(neurons, synapses, monitor), synapses, monitor


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--neurons", type=int, default=100)
    parser.add_argument("--ticks", type=int, default=3000)
    parser.add_argument("--base", type=float, default=0.0)
    parser.add_argument("--standalone", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.standalone:
            b2.set_device("cpp_standalone", directory=folder, build_on_run=False)
        else:
            b2.prefs.codegen.target = "numpy"
        whole, synapses, monitor = network(common.job(asked.neurons), asked.base)
        begin = time.perf_counter()
        whole.run(asked.ticks * common.TICK_S * b2.second)
        if asked.standalone:
            b2.device.build(directory=folder, compile=True, run=True)
        run_s = b2.device._last_run_time if asked.standalone else time.perf_counter() - begin
        tick = np.round(np.asarray(monitor.t) / common.TICK_S).astype(int)
        told = common.told(tick, np.asarray(monitor.i), np.asarray(synapses.w), asked.ticks, asked.neurons)
        print(json.dumps({**told, "run_s": float(run_s)}))


if __name__ == "__main__":
    main()
