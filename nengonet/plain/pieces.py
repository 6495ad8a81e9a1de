"""Pieces of scripts: the computations of nengonet's own objects, in plain Nengo and NumPy."""

from __future__ import annotations

INTEGRATE_AND_FIRE = '''\
class IntegrateAndFire(nengo.RectifiedLinear):
    """Integrate a current of either sign, and subtract 1 for every spike."""

    # It starts half way to the threshold, so that counts round to the nearest.
    state = {"voltage": nengo.dists.Choice([0.5])}
    spiking = True

    def __init__(self, amplitude=1.0, min_voltage=-np.inf, initial_state=None):
        super().__init__(amplitude=amplitude, initial_state=initial_state)
        self.min_voltage = min_voltage

    def step(self, dt, J, output, voltage):
        voltage += J * dt
        n_spikes = np.maximum(np.floor(voltage), 0.0)
        output[...] = (self.amplitude / dt) * n_spikes
        voltage -= n_spikes
        np.maximum(voltage, self.min_voltage, out=voltage)
'''

WINDOWS = '''\
def windows(shape, size, strides, padding):
    """Return the inputs of every window of a pool; -1 where there is padding."""
    inputs = np.arange(np.prod(shape)).reshape(shape)
    inputs = np.pad(inputs, [*padding, (0, 0)], constant_values=-1)
    axes = tuple(range(len(size)))
    found = np.lib.stride_tricks.sliding_window_view(inputs, size, axis=axes)
    found = found[tuple(slice(None, None, step) for step in strides)]
    return found.reshape(-1, np.prod(size))
'''

AVERAGE_POOL = '''\
def average_pool(n_in, inputs):
    """Return the matrix that takes the mean of every window."""
    outputs = np.broadcast_to(np.arange(len(inputs)), inputs.T.shape)
    inside = inputs.T >= 0
    indices = np.stack([outputs[inside], inputs.T[inside]], axis=1)
    shares = 1.0 / np.bincount(indices[:, 0])
    shape = (len(inputs), n_in)
    return nengo.Sparse(shape, indices=indices, init=shares[indices[:, 0]])
'''

_MAX_POOL = '''\
class {name}(nengo.Process):
    """{doc}"""

    def __init__(self, n_in, inputs, spike):
        super().__init__(default_size_in=n_in, default_size_out=len(inputs))
        self.inputs, self.spike = inputs, spike

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        # The last sum is that of the padding, which is never the largest.
        sums = np.append(np.zeros(shape_in), -np.inf)
        return {{"sums": sums, "sent": np.zeros(shape_out)}}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        sums, sent = state["sums"], state["sent"]

        def step(t, x):
{body}

        return step
'''
_COUNTED = """            sums[:-1] += {counts}
"""
_RUNNING = """            largest = sums[self.inputs].max(axis=1)
            change = largest - sent
            sent[...] = largest
            return change * self.spike"""
_WINNER = """            first = sums[self.inputs].argmax(axis=1)[:, np.newaxis]
            return x[np.take_along_axis(self.inputs, first, axis=1)[:, 0]]"""
_INSTANT = """            sums[:-1] = x
            return sums[self.inputs].max(axis=1)"""
_POOLS = {
    "running_max": ("Put out the change of the largest sum of each window.", _RUNNING),
    "winner": ("Pass on the input with the largest sum of each window.", _WINNER),
    "instant": ("Put out the largest input of each window, as it is now.", _INSTANT),
}


def max_pool(kind: str, spikes: bool) -> tuple[str, str]:
    """Return the name and the source of a max pool's class, for inputs of ``spikes`` or values."""
    doc, body = _POOLS[kind]
    name = "".join(word.title() for word in kind.split("_")) + "Pool"
    if kind != "instant":
        counts = "np.rint(x / self.spike)" if spikes else "x / self.spike"
        body = _COUNTED.format(counts=counts) + body
    name = name if spikes or kind == "instant" else f"{name}OfValues"
    return name, _MAX_POOL.format(name=name, doc=doc, body=body)


LOWPASS = '''\
class LowpassOfEach(nengo.Process):
    """Filter every input with a time constant of its own, in seconds; 0 filters nothing."""

    def __init__(self, tau):
        super().__init__(default_size_in=len(tau), default_size_out=len(tau))
        with np.errstate(divide="ignore"):
            self.gained = 1.0 - np.exp(-DT / np.asarray(tau, dtype=float))

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {"level": np.zeros(shape_out)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        level = state["level"]

        def step(t, x):
            level[...] += self.gained * (x - level)
            return level

        return step
'''

POISSON = '''\
def poisson_spikes(image, max_rate, amplitude, example):
    """Return the output of every pixel at each step; a white one spikes at max_rate."""
    rng = np.random.default_rng(np.random.SeedSequence([SEED, example]))
    rates = max_rate * image
    lit, blocks = np.flatnonzero(rates), []
    while len(blocks) * BLOCK_STEPS < N_STEPS:
        # A Poisson process: a Poisson number of spikes, spread evenly over the steps.
        spiking = lit.repeat(rng.poisson(rates[lit] * (BLOCK_STEPS * DT)))
        steps = rng.integers(BLOCK_STEPS, size=spiking.size)
        counts = np.zeros((BLOCK_STEPS, image.size))
        np.add.at(counts, (steps, spiking), 1)
        blocks.append(counts)
    return amplitude / DT * np.concatenate(blocks)[:N_STEPS]
'''

POISSON_STEPS = '''\
def poisson_steps(rows, max_rate, amplitude, example):
    """Return Poisson spikes for a row of values at each step; 1 spikes at max_rate."""
    rng = np.random.default_rng(np.random.SeedSequence([SEED, example]))
    return amplitude / DT * rng.poisson(max_rate * rows * DT)
'''

SHOWN = '''\
class Shown(nengo.Process):
    """Put out a row of values at each step."""

    def __init__(self, rows, seed=None):
        super().__init__(default_size_in=0, default_size_out=rows.shape[1], seed=seed)
        self.rows = rows

    def make_step(self, shape_in, shape_out, dt, rng, state):
        return lambda t: self.rows[round(t / dt) - 1]
'''

FIRST_STATE = '''\
def first_state(distribution, n, example, layer, state):
    """Draw an example's own first values of a state."""
    sequence = np.random.SeedSequence([SEED, example], spawn_key=(3, layer, state))
    rng = np.random.RandomState(np.random.PCG64(sequence))
    return nengo.dists.get_samples(distribution, n, rng=rng)
'''

RESET_SEED = '''\
def reset_seed(example):
    """Return the seed of what draws random numbers while an image is shown."""
    sequence = np.random.SeedSequence([SEED, example], spawn_key=(1,))
    return int(np.random.default_rng(sequence).integers(2**31 - 1))
'''
