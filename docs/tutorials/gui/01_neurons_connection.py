"""What a connection into ``.neurons`` computes, for Nengo GUI: notebook 01 with a slider.

Open it with ``nengo docs/tutorials/gui/01_neurons_connection.py``, press play, and move the slider:
the LIF neuron is silent below a drive of 0, fires at 100 Hz at 1, and never above 500 Hz.
"""

import nengo

import nengonet as nn

MAX_RATE, INTERCEPT = 100.0, 0.0  # the Nengo forum's choice
neuron_type = nengo.LIF(initial_state={"voltage": nengo.dists.Choice([0.0])})
facts = nn.explain_neuron(neuron_type, 0.0, MAX_RATE, INTERCEPT)


def explain(t, x):
    """Show the sum that makes the current, and the rate that it makes."""
    now = nn.explain_neuron(neuron_type, float(x[0]), MAX_RATE, INTERCEPT)
    explain._nengo_html_ = (
        f"<p>J = gain * drive + bias<br>= {now.gain:.3f} * {now.drive:.2f} + {now.bias:.0f}"
        f" = {now.current:.2f}</p><p>rate {now.rate:.0f} Hz</p>"
    )


explain._nengo_html_ = ""

with nengo.Network(label="one neuron", seed=0) as model:
    drive = nengo.Node([0.5], label="drive")
    neuron = nengo.Ensemble(
        1,
        dimensions=1,
        neuron_type=neuron_type,
        gain=[facts.gain],
        bias=[facts.bias],
        label="neuron",
    )
    nengo.Connection(drive, neuron.neurons, synapse=None)
    sum_ = nengo.Node(explain, size_in=1, label="the sum")
    nengo.Connection(drive, sum_, synapse=None)
    # A spike is 1000 high and 1 ms long; the filter's output swings around the rate in Hz.
    rate = nengo.Node(size_in=1, label="filtered (Hz)")
    nengo.Connection(neuron.neurons, rate, synapse=0.1)
