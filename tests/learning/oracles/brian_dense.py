"""Brian2 does the job of dense_job.py: spikes, weights and time as JSON on the last line (`make oracles`).

The documented form of pair STDP (brian2.readthedocs.io, examples/synapses.STDP), with its schedule: neurons, threshold,
synapses, resets. `--standalone` builds C++ code; `run_s` is then Brian's own `_last_run_time`, which leaves out the
compiler, the start of the process and the loading of the input; `cpu_s` the processor time of that process as a whole.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time

import brian2 as b2
import dense_job as job
import numpy as np


def network(ticks: int, weights: np.ndarray, refractory_s: float) -> tuple[b2.Network, b2.Synapses, b2.SpikeMonitor]:
    """Input group, neurons, synapses and a counter of spikes."""
    b2.defaultclock.dt = job.TICK_S * b2.second
    at, rows = np.nonzero(job.inputs(ticks))
    source = b2.SpikeGeneratorGroup(job.ROWS, rows, at * job.TICK_S * b2.second)
    tau = job.TAU_S * b2.second
    neurons = b2.NeuronGroup(
        job.COLS, "dv/dt = -v / tau : 1 (unless refractory)", threshold="v >= 1", reset="v = 0", method="exact",
        refractory=refractory_s * b2.second, namespace={"tau": tau},
    )  # fmt: skip
    synapses = b2.Synapses(
        source, neurons,
        """w : 1
        dapre/dt = -apre / tau : 1 (event-driven)
        dapost/dt = -apost / tau : 1 (event-driven)""",
        on_pre="v_post += gain * w\napre += up\nw = clip(w + apost, 0, 1)",
        on_post="apost -= down\nw = clip(w + apre, 0, 1)",
        namespace={"tau": tau, "gain": job.GAIN, "up": job.UP, "down": job.DOWN},
    )  # fmt: skip
    synapses.connect()
    synapses.w = weights.ravel()
    monitor = b2.SpikeMonitor(neurons)
    return b2.Network(source, neurons, synapses, monitor), synapses, monitor


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ticks", type=int, default=1000)
    parser.add_argument("--refractory-s", type=float, default=0.0)
    parser.add_argument("--standalone", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.standalone:
            b2.set_device("cpp_standalone", directory=folder, build_on_run=False)
        else:
            b2.prefs.codegen.target = "numpy"
        whole, synapses, monitor = network(asked.ticks, job.weights(), asked.refractory_s)
        begin, cpu_s = time.perf_counter(), float("inf")
        whole.run(asked.ticks * job.TICK_S * b2.second)
        if asked.standalone:
            b2.device.build(directory=folder, compile=True, run=False)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            b2.device.run(folder, with_output=False, run_args=[])
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        run_s = b2.device._last_run_time if asked.standalone else time.perf_counter() - begin
        w = np.asarray(synapses.w).reshape(job.ROWS, job.COLS)
        told = {
            "ticks": asked.ticks, "refractory_s": asked.refractory_s, "spikes": int(monitor.num_spikes),
            "run_s": float(run_s), "cpu_s": cpu_s, "w_mean": float(w.mean()), "w_squares": float((w**2).mean()),
            "w_corner": w[:4, :4].tolist(), "first": np.asarray(monitor.i)[:20].tolist(),
        }  # fmt: skip
        print(json.dumps(told))


if __name__ == "__main__":
    main()
