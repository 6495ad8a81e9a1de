"""Rates measured by stepping a neuron type, for types whose state has no formula."""

from __future__ import annotations

import numpy as np
from nengo.dists import Distribution

from nengonet.exceptions import InputError
from nengonet.neurons.model import NeuronModel, on_grid, spread

# The number of currents that are stepped. Rates between them are interpolated.
_N_CURRENTS, _N_NOISY = 400, (40, 12)
# Neurons per current: with different starting voltages; and with different noise, where enough
# neurons are stepped to reach a total time in seconds.
_N_STARTS, _N_DRAWS, _DRAWN_TIME = 16, (4, 48), 16.0
# For the long run: the least steps to settle and to count, and the most steps of both together.
_LEAST_STEPS, _MOST_STEPS = (300, 2000), 60_000


class SteppedModel(NeuronModel):
    """A type whose rates are measured with its own step, for each neuron on its own.

    The step is called under constant (or noisy) currents, from starting states drawn as Nengo
    draws them. The rates therefore include adaptation, transients and the effect of long steps.
    In the long run they are exact, except for neurons that spike less than once in `window`
    seconds.

    Parameters
    ----------
    neuron_type : NeuronType
        The type.
    family : type
        The class that the model was registered for.

    Examples
    --------
    >>> from nengonet.neurons import SteppedModel, model_of, register
    >>> class Halved(nengo.LIF):
    ...     def step(self, dt, J, output, voltage, refractory_time):
    ...         super().step(dt, J / 2, output, voltage, refractory_time)
    >>> _ = register(Halved, SteppedModel)
    >>> model_of(Halved()).rates(np.array([[1.0, 6.0]])).round().tolist()
    [[0.0, 99.0]]
    """

    settling: float = 0.2
    window: float = 2.0

    def curve(self, current, dt, presentation_time):
        """Return the rates of neurons that are stepped."""
        values, where = np.unique(current, return_inverse=True)
        nodes = values if values.size <= _N_CURRENTS else spread(values, _N_CURRENTS)
        rates = self._stepped(nodes, np.zeros(nodes.shape), dt, presentation_time, _N_STARTS)
        return np.interp(values, nodes, rates)[where].reshape(current.shape)

    def noise(self, current, deviation, dt, presentation_time=None):
        """Return the change that Gaussian currents make to the rates of stepped neurons."""
        time = self.window if presentation_time is None else presentation_time
        settings = (dt, presentation_time, int(np.clip(_DRAWN_TIME / time, *_N_DRAWS)))

        def extra(mean: np.ndarray, width: np.ndarray) -> np.ndarray:
            noisy, quiet = (self._stepped(mean, each, *settings) for each in (width, 0 * width))
            return noisy - quiet

        if not np.any(deviation):
            return np.zeros(current.shape)
        return on_grid(extra, current, deviation, n=_N_NOISY, most=_N_CURRENTS)

    def _stepped(self, current, deviation, dt, presentation_time, n_starts) -> np.ndarray:
        """Return the rate under each current, as a mean over several starting states."""
        rng = np.random.RandomState(0)
        shape = (n_starts, current.size)
        states = self.start(shape, current.ravel(), rng, presentation_time is None)
        state = {name: values.ravel() for name, values in states.items()}
        flat, width = np.tile(current.ravel(), n_starts), np.tile(deviation.ravel(), n_starts)
        if presentation_time is None:
            settle = min(max(round(self.settling / dt), _LEAST_STEPS[0]), _MOST_STEPS // 2)
            n_steps = max(round(self.window / dt), _LEAST_STEPS[1])
        else:
            settle, n_steps = 0, max(round(presentation_time / dt), 1)
        n_steps = min(n_steps, _MOST_STEPS - settle)
        output, area = np.zeros(flat.shape), dt / self.amplitude
        total, last = np.zeros(flat.shape), np.zeros(flat.shape)
        for step in range(settle + n_steps):
            if step == settle:
                total[:], before = 0.0, last.copy()
            noisy = flat + width * rng.standard_normal(flat.shape) if width.any() else flat.copy()
            try:
                with np.errstate(invalid="raise", divide="ignore", over="ignore"):
                    self.neuron_type.step(dt, noisy, output, **state)
            except FloatingPointError as error:
                raise InputError(
                    f"no rate prediction for {self.name} in steps of {dt:g} s, in which its step "
                    f"fails ({error}); use a smaller dt"
                ) from None
            total += output
            last[output != 0] = step + 1
        rates = total * area / (n_steps * dt)
        if self.spiking and presentation_time is None:
            # Count whole intervals only: from the last spike before the window to the last in it.
            whole = (before > 0) & (last > before)
            rates[whole] = (total * area)[whole] / ((last - before)[whole] * dt)
        return rates.reshape(shape).mean(axis=0).reshape(current.shape)

    def start(self, shape, current, rng, settled) -> dict[str, np.ndarray]:
        """Return starting states, (n_starts, n_currents) each, as Nengo draws them.

        With ``settled``, they may be nearer to the states of the long run.
        """
        given = self.neuron_type.initial_state or {}
        states = {}
        for name, default in self.neuron_type.state.items():
            law = given.get(name, default)
            if isinstance(law, Distribution):
                values = np.ravel(law.sample(shape[0], rng=rng))
            else:
                values = rng.choice(np.ravel(law), shape[0])
            states[name] = np.repeat(values[:, None].astype(np.float64), shape[1], axis=1)
        return states
