"""Compare `nengonet.predict_rates` with long runs of `nengo.Simulator` for all neuron types.

    python benchmarks/neuron_rates.py [--steps 20000] [--only LIF]

Every row is a neuron type at one step length. Currents range from far below to far above its
threshold, with gains of both signs. The row has the difference of the mean outputs, divided by the
amplitude, in Hz and in spikes of the run. Neurons settle in the first fifth of the run, which does
not count. For random types, differences are divided by the standard deviation of their own noise.
"""

from __future__ import annotations

import argparse
import itertools

import nengo
import numpy as np

import nengonet as nn
from nengonet.neurons import model_of

DRIVES = np.array([-50, -3, 0.1, 0.5, 0.95, 1.0001, 1.01, 1.1, 1.5, 2, 3, 7, 20, 60, 300, 5000.0])


def types() -> list[nengo.neurons.NeuronType]:
    """Return the neuron types to compare."""
    found = [nengo.RectifiedLinear(0.2), nengo.SpikingRectifiedLinear(3.0), nengo.Sigmoid(0.01)]
    found += [nengo.Tanh(), nn.IntegrateAndFire(0.1), nn.IntegrateAndFire(min_voltage=0)]
    for tau_rc, tau_ref in itertools.product((0.005, 0.02, 0.2), (0, 0.0004, 0.002, 0.0137)):
        found.append(nengo.LIF(tau_rc, tau_ref, amplitude=0.3))
    found += [nengo.LIFRate(tau_ref=0), nengo.LIF(min_voltage=-1)]
    for tau_n, inc_n in itertools.product((0.01, 0.1, 1.0), (0, 0.01, 0.05)):
        found += [nengo.AdaptiveLIF(tau_n, inc_n), nengo.AdaptiveLIFRate(tau_n, inc_n)]
    found += [nengo.AdaptiveLIF(0.05, 0.02, amplitude=0.2, tau_ref=0, min_voltage=-0.5)]
    found += [nengo.Izhikevich(), nengo.Izhikevich(tau_recovery=0.1, reset_voltage=-55)]
    bases = (nengo.RectifiedLinear(0.5), nengo.LIFRate(amplitude=0.4), nengo.Tanh())
    for wrap in (nengo.RegularSpiking, nengo.StochasticSpiking, nengo.PoissonSpiking):
        found += [wrap(base, amplitude=0.2) for base in bases]
        found += [wrap(nengo.Sigmoid(0.004)), wrap(nengo.AdaptiveLIFRate(0.1, 0.02))]
    return found


def compared(
    neuron_type: nengo.neurons.NeuronType, dt: float, n_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return predicted and simulated rates, the deviation due to chance, and the time."""
    gain = np.where(np.arange(DRIVES.size) % 2, 1.0, -1.0)
    with nengo.Network(seed=0) as network:
        inputs = nengo.Node(DRIVES * gain)
        layer = nengo.Ensemble(
            DRIVES.size, 1, neuron_type=neuron_type, gain=gain, bias=np.zeros(DRIVES.size)
        )
        nengo.Connection(inputs, layer.neurons, synapse=None)
        probe = nengo.Probe(layer.neurons, synapse=None)
    predicted = nn.predict_rates(layer, (DRIVES * gain)[None], network=network, dt=dt)[0]
    # At least five time constants of the slowest adaptation.
    n_steps = max(n_steps, round(25 * getattr(neuron_type, "tau_n", 0) / dt))
    with nengo.Simulator(network, dt=dt, progress_bar=False) as simulator:
        simulator.run_steps(n_steps, progress_bar=False)
        data = simulator.data[probe][n_steps // 5 :] / model_of(neuron_type).amplitude
    deviation = data.std(axis=0) / np.sqrt(len(data))
    return predicted, data.mean(axis=0), deviation, len(data) * dt


def main() -> None:
    """Print the table, and the largest differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--only", default="", help="types whose name contains this")
    arguments = parser.parse_args()
    print("step s    worst: predicted, simulated Hz     Hz off   spikes  relative  neuron type")
    for neuron_type, dt in itertools.product(types(), (1e-4, 1e-3, 3e-3, 1e-2)):
        if arguments.only not in str(neuron_type):
            continue
        try:
            wanted, found, deviation, time = compared(neuron_type, dt, arguments.steps)
        except nn.InputError as error:
            print(f"{dt:6g}    refused: {error}")
            continue
        off = np.abs(wanted - found)
        random = model_of(neuron_type).random
        units = off / np.maximum(deviation, 1e-12) if random else off * time
        units = np.where(off < 1e-9, 0, units)
        worst = int(np.argmax(units))
        relative = off[worst] / abs(found[worst]) if found[worst] else np.nan
        print(
            f"{dt:6g} {wanted[worst]:14,.4f} {found[worst]:14,.4f} Hz {off[worst]:10.4f} "
            f"{units[worst]:8.2f} {relative:9.2%}  {neuron_type}{' (sigma)' if random else ''}"
        )


if __name__ == "__main__":
    main()
