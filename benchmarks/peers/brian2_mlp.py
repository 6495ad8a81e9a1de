"""The job in Brian2: C++ standalone; one network shows all images of a process in one run."""

from __future__ import annotations

import importlib.metadata
import tempfile
import time

import common
import numpy as np

REFRACTORY = 0.002  # seconds, as nengo.LIF's


def job(args, images, number):
    """Build and compile the network, run it once, and return the function that simulates."""
    import brian2 as b2

    b2.BrianLogger.suppress_hierarchy("brian2")
    folder = tempfile.TemporaryDirectory(prefix="brian2_mlp_")
    b2.set_device("cpp_standalone", build_on_run=False)
    b2.defaultclock.dt = common.DT * b2.second
    b2.seed(number)
    presentation = args.steps * common.DT * b2.second
    namespace = {
        "tau": common.TAU * b2.second,
        "stimulus": b2.TimedArray(images * common.MAX_RATE * b2.Hz, dt=presentation),
    }
    layer = b2.PoissonGroup(images.shape[1], rates="stimulus(t, i)")
    objects = [layer]
    for kernel in common.scaled_kernels(args.weights, refractory=REFRACTORY):
        source, layer = (
            layer,
            b2.NeuronGroup(
                kernel.shape[1],
                "dv/dt = -v / tau : 1 (unless refractory)",
                threshold="v > 1",
                reset="v = 0",
                refractory=REFRACTORY * b2.second,
                method="exact",
            ),
        )
        # Every image starts from the reset state.
        layer.run_regularly("v = 0\nlastspike = -1 * second", dt=presentation, when="start")
        synapses = b2.Synapses(
            source, layer, "weight : 1", on_pre="v_post += weight * int(not_refractory_post)"
        )
        synapses.connect()
        # A current that lasts for one step adds (J - v) * (1 - exp(-dt / tau)).
        synapses.weight = kernel.ravel() * -np.expm1(-common.DT / common.TAU)
        objects += [layer, synapses]
    spikes = b2.SpikeMonitor(layer)
    network = b2.Network(*objects, spikes)
    network.run(presentation * len(images), namespace=namespace)
    b2.device.build(directory=folder.name, run=False)
    b2.device.run(with_output=False)

    def simulate():
        start = time.monotonic()
        b2.device.run(with_output=False)
        step = np.round(np.asarray(spikes.t / b2.second) / common.DT).astype(int)
        counts = np.zeros((len(images), layer.N), dtype=np.int64)
        np.add.at(counts, (step // args.steps, np.asarray(spikes.i)), 1)
        folder.cleanup()
        # Only the time steps count, not loading the program, its arrays and synapses.
        return counts, time.monotonic() - start - b2.device._last_run_time

    return simulate


if __name__ == "__main__":
    args = common.arguments(__doc__, batch_size=1)
    common.run(
        job,
        args,
        framework="Brian2",
        version=importlib.metadata.version("brian2"),
        notes=f"C++ standalone, float64, NumPy {np.__version__}",
    )
