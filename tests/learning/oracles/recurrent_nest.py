"""NEST does the job of recurrent_job.py on one thread: spikes, weights, time as JSON on the last line (`make oracles`).

iaf_psc_delta with stdp_synapse, additive (mu 0), whose delay is a dendritic one. NEST's neuron misses t_ref steps after
a spike, Brian's and ours one less: the job's refractory time is shorter by a step here. NEST works a synapse's
potentiation out when its next spike comes, so weights at the end lack those that are still to be worked out.
"""

from __future__ import annotations

import argparse
import json
import time

import nest
import numpy as np
import recurrent_job as common


def network(job: common.Job) -> tuple[object, object]:
    """Neurons and a record of spikes. A weight is `gain` x the job's, up to `gain`."""
    milli, many = 1e3, len(job.origin)
    neurons = nest.Create(
        "iaf_psc_delta", len(job.bias),
        {"tau_m": common.TAU_S * milli, "C_m": common.TAU_S * milli, "E_L": 0.0, "V_th": 1.0, "V_reset": 0.0,
         "t_ref": (common.REFRACTORY_S - common.TICK_S) * milli, "tau_minus": common.TAU_S * milli},
    )  # fmt: skip
    neurons.I_e, neurons.V_m = job.bias.tolist(), job.membrane.tolist()
    same = {
        "delay": common.DELAY_S * milli, "tau_plus": common.TAU_S * milli, "Wmax": job.gain, "lambda": common.UP,
        "alpha": common.DOWN / common.UP, "mu_plus": 0.0, "mu_minus": 0.0,
    }  # fmt: skip
    each = {name: np.full(many, value) for name, value in same.items()}
    ids = np.array(neurons.tolist())
    nest.Connect(
        ids[job.origin], ids[job.target], "one_to_one",
        {"synapse_model": "stdp_synapse", "weight": job.gain * job.weights, **each},
    )  # fmt: skip
    recorder = nest.Create("spike_recorder")
    nest.Connect(neurons, recorder)
    return neurons, recorder


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--neurons", type=int, default=100)
    parser.add_argument("--ticks", type=int, default=3000)
    asked = parser.parse_args()
    nest.ResetKernel()
    nest.resolution, nest.local_num_threads = common.TICK_S * 1e3, 1
    job = common.job(asked.neurons)
    neurons, recorder = network(job)
    nest.Prepare()
    begin = time.process_time()  # as Brian's own figure
    nest.Run(asked.ticks * common.TICK_S * 1e3)
    run_s = time.process_time() - begin
    nest.Cleanup()
    found = nest.GetConnections(source=neurons, target=neurons)
    weights = np.array(found.weight) / job.gain
    tick = np.round(np.array(recorder.events["times"]) / nest.resolution).astype(int) - 1  # NEST stamps a step's end
    told = common.told(tick, np.array(recorder.events["senders"]) - 1, weights, asked.ticks, asked.neurons)
    print(json.dumps({**told, "run_s": run_s}))


if __name__ == "__main__":
    main()
