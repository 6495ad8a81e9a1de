"""The effect of transforms on mean and variance, and the weights that a spike reaches."""

import nengo
import numpy as np
import pytest
import scipy.sparse
from test_operations import apply

import nengonet as nn
from nengonet.explain.prediction import predict, predict_rates
from nengonet.layers.transforms import Weights

RNG = np.random.default_rng(7)
CONVOLUTIONS = {
    "strides": nengo.Convolution(
        3, (5, 6, 2), (3, 2), strides=(2, 1), padding="same", init=RNG.normal(size=(3, 2, 2, 3))
    ),
    "groups": nengo.Convolution(
        4, (3, 3, 2), (2, 2), groups=2, init=RNG.normal(size=(2, 2, 1, 4)), strides=(1, 2)
    ),
    "channels first": nengo.Convolution(
        3,
        (2, 4, 5),
        (3, 3),
        channels_last=False,
        padding="same",
        strides=(1, 2),
        init=RNG.normal(size=(3, 3, 2, 3)),
    ),
    "one dimension": nengo.Convolution(
        3, (7, 2), (3,), strides=(2,), padding="same", init=RNG.normal(size=(3, 2, 3))
    ),
    "one dimension, channels first": nengo.Convolution(
        4, (2, 7), (3,), strides=(1,), channels_last=False, init=RNG.normal(size=(3, 2, 4))
    ),
    "scipy": nengo.Sparse((5, 7), init=scipy.sparse.csr_matrix(np.round(RNG.normal(size=(5, 7))))),
    "sparse": nengo.Sparse((5, 7), indices=[[0, 1], [4, 6], [0, 2]], init=[1.0, -2.0, 0.5]),
    "diagonal": nengo.Dense((4, 4), init=np.array([1.0, -2.0, 0.5, 3.0])),
    "scalar": nengo.Dense((4, 4), init=-1.5),
    "none": nengo.transforms.NoTransform(4),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_mean_and_variance_of_a_transform(name):
    """The mean is that of a run; the variance is the square of every weight's effect."""
    transform = CONVOLUTIONS[name]
    images = RNG.uniform(size=(3, transform.size_in))
    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((transform.size_in,), 200.0, amplitude=0.1)
        still = nn.constant_input((transform.size_in,), scale=20.0, label="still")
        noisy, quiet = (nengo.Node(size_in=transform.size_out) for _ in range(2))
        nengo.Connection(pixels.node, noisy, transform=transform, synapse=None)
        nengo.Connection(still.node, quiet, transform=transform, synapse=None)
    columns = {pixels.node: np.eye(transform.size_in)}
    matrix = predict(noisy, columns, network=network)[-1].mean_outputs.T / 20
    found = predict(noisy, {pixels.node: images}, network=network)[-1]
    np.testing.assert_allclose(found.mean_outputs, 20 * images @ matrix.T, atol=1e-12)
    variance = 0.1**2 * 200 * images / 0.001
    np.testing.assert_allclose(found.variance, variance @ (matrix**2).T, rtol=1e-12)
    still.node.output.show(images[0], example=0, seed=0)
    with nengo.Simulator(network, seed=0, progress_bar=False, optimize=False) as simulator:
        simulator.step()
        output = simulator.signals[simulator.model.sig[quiet]["out"]]
        np.testing.assert_allclose(output, found.mean_outputs[0], atol=1e-12)


def test_a_large_sparse_matrix_stays_sparse():
    n = 200_000  # 320 GB as a matrix
    with nengo.Network() as network:
        source = nengo.Node(np.zeros(n))
        relay = nengo.Node(size_in=n)
        transform = nengo.Sparse((n, n), indices=[[7, n - 1]], init=[3.0])
        nengo.Connection(source, relay, transform=transform, synapse=None)
    assert predict_rates(relay, np.ones((1, n)), network=network).sum() == 3


@pytest.mark.parametrize(
    "transform",
    [
        nengo.Convolution(
            4, (2, 5, 4), (3, 2), channels_last=False, strides=(1, 2), init=np.ones((3, 2, 2, 4))
        ),
        nengo.Convolution(2, (5, 3), (2,), strides=(2,), init=np.ones((2, 3, 2))),
        nengo.Convolution(
            2, (3, 5), (2,), strides=(1,), channels_last=False, init=np.ones((2, 3, 2))
        ),
        nengo.Convolution(
            4,
            (4, 3, 4),
            (2, 2),
            padding="same",
            strides=(2, 1),
            groups=2,
            init=np.ones((2, 2, 2, 4)),
        ),
        nengo.ConvolutionTranspose(3, (3, 2, 2), kernel_size=(2, 2), init=np.ones((2, 2, 2, 3))),
        nengo.Sparse((3, 4), indices=[[0, 1], [0, 2], [2, 1]], init=[1.0, -2.0, 0.0]),
        nengo.Dense((3, 3), init=2.0),
        nengo.Dense((3, 3), init=np.array([1.0, 0.0, 2.0])),
    ],
    ids=str,
)
def test_what_a_spike_reaches_is_the_matrix_of_the_transform(transform):
    with nengo.Network():
        pre, post = nengo.Node(size_in=transform.size_in), nengo.Node(size_in=transform.size_out)
        connection = nengo.Connection(pre, post, transform=transform, synapse=None)
    matrix = np.stack([apply(connection, row) for row in np.eye(transform.size_in)], axis=1)
    weights = Weights(connection)
    np.testing.assert_allclose(weights.matrix().toarray(), matrix)
    after = np.arange(1.0, 1 + transform.size_out)
    np.testing.assert_allclose(weights.reached(after), after @ (matrix != 0))
