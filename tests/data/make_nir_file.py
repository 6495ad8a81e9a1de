"""Write ``cnn.nir``, a small network in NIR. This needs the package nir.

Run: python tests/data/make_nir_file.py
"""

import pathlib

import nengo
import nir
import numpy as np

import nengonet as nn

rng = np.random.default_rng(0)
lif = nengo.LIF(
    tau_ref=0, min_voltage=-np.inf, initial_state={"voltage": nengo.dists.Choice([0.0])}
)
tuning = {"neuron_type": lif, "gain": 2.0, "bias": 0.5, "amplitude": 0.01}
with nengo.Network():
    pixels = nn.constant_input((4, 5, 2))
    conv = nn.conv2d(pixels, rng.normal(size=(2, 2, 2, 3)), padding="same", label="conv", **tuning)
    pool = nn.avg_pool2d(conv, label="pool")
    output = nn.dense(pool, np.arange(48.0).reshape(12, 4), label="output", **tuning)
nir.write(pathlib.Path(__file__).parent / "cnn.nir", nn.to_nir(output))
