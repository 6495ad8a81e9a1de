"""nengonet's models of neuron types, compared with long runs of Nengo's own simulator."""

import nengo
import numpy as np
import pytest
from nengo.dists import Choice

import nengonet as nn
import nengonet.neurons.model
from nengonet.neurons import SteppedModel, model_of, register

# Nengo divides by zero in what it computes, and does not need, of stated gains.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{words}")
    for words in ("divide by zero", "invalid value", "Non-finite values", "'base_type' is type")
]

CURRENTS = np.array([-50, -3, 0.5, 0.95, 1.01, 1.1, 1.5, 2.1, 3.3, 7, 20, 63, 311.0])
GAIN = np.where(np.arange(CURRENTS.size) % 2, 1.0, -1.0)


def simulated(neuron_type, dt, time, skip=0.0, noise=None, copies=1):
    """Return nengo.Simulator's mean outputs divided by the amplitude, and one spike's share."""
    currents, gain = np.tile(CURRENTS, copies), np.tile(GAIN, copies)
    with nengo.Network(seed=1) as network:
        layer = nengo.Ensemble(
            currents.size,
            1,
            neuron_type=neuron_type,
            gain=gain,
            bias=np.zeros(currents.size),
            noise=noise,
        )
        nengo.Connection(nengo.Node(currents * gain), layer.neurons, synapse=None)
        probe = nengo.Probe(layer.neurons, synapse=None)
    with nengo.Simulator(network, dt=dt, progress_bar=False) as simulator:
        simulator.run_steps(round((skip + time) / dt), progress_bar=False)
        data = simulator.data[probe][round(skip / dt) :] / model_of(neuron_type).amplitude
    return data.mean(axis=0).reshape(copies, -1).mean(axis=0), network, layer


def predicted(neuron_type, dt, **settings):
    return model_of(neuron_type).rates(CURRENTS[None], dt=dt, **settings)[0]


LONG_STEPS = [
    nengo.LIF(tau_ref=0, amplitude=0.3),
    nengo.LIF(tau_ref=0.0004),
    nengo.LIF(tau_rc=0.005, tau_ref=0.0013),
    nengo.LIF(tau_rc=0.2, tau_ref=0.0137),
    nengo.LIF(min_voltage=-1),
    nengo.LIFRate(tau_ref=0, amplitude=0.2),
    nengo.RectifiedLinear(3.0),
    nengo.SpikingRectifiedLinear(0.5),
    nn.IntegrateAndFire(min_voltage=-0.5),
    nengo.Sigmoid(),
    nengo.Tanh(),
    nengo.Izhikevich(),
    nengo.Izhikevich(tau_recovery=0.1, reset_voltage=-55),
    nengo.RegularSpiking(nengo.LIFRate(amplitude=0.5), amplitude=0.1),
    nengo.RegularSpiking(nengo.Tanh()),
]


@pytest.mark.parametrize("dt", [0.001, 0.003, 0.01])
@pytest.mark.parametrize("neuron_type", LONG_STEPS, ids=str)
def test_rates_are_those_of_nengos_simulator_at_any_step(neuron_type, dt):
    """Rates agree to one spike in 2000 steps, or to the last digits without spikes."""
    time = 2000 * dt
    found, network, layer = simulated(neuron_type, dt, time, skip=0.3)
    wanted = predicted(neuron_type, dt)
    bound = 1.01 / time if neuron_type.spiking else 1e-12 * np.abs(wanted).max()
    assert np.abs(wanted - found).max() <= bound
    through = nn.predict_rates(layer, (CURRENTS * GAIN)[None], network=network, dt=dt)
    np.testing.assert_allclose(through[0], wanted, rtol=1e-12)


@pytest.mark.parametrize(
    "neuron_type",
    [
        nengo.AdaptiveLIF(tau_n=0.01, inc_n=0.05),
        nengo.AdaptiveLIF(tau_n=0.1, inc_n=0.02, amplitude=0.3, tau_ref=0),
        nengo.AdaptiveLIF(tau_n=0.3, min_voltage=-2),
        nengo.AdaptiveLIFRate(tau_n=0.01, inc_n=0.03),
        nengo.AdaptiveLIFRate(tau_n=0.2, amplitude=2),
        nengo.RegularSpiking(nengo.AdaptiveLIFRate(tau_n=0.2, amplitude=2), amplitude=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("dt", [0.001, 0.004])
def test_adapted_rates_are_those_of_nengos_simulator(neuron_type, dt):
    """Rates agree for bursts and pauses too, where the curve's fixed point is not the rate."""
    found, *_ = simulated(neuron_type, dt, 6.0, skip=2.0)
    wanted = predicted(neuron_type, dt)
    assert np.all(np.abs(wanted - found) <= 1.01 / 6 + 0.003 * found)
    first = model_of(neuron_type).first_rates(CURRENTS[None], dt)[0]
    assert first[7] > 1.2 * wanted[7]


def test_slow_adaptation_ends_at_the_fixed_point_of_the_curve():
    neuron_type = nengo.AdaptiveLIF(tau_n=20.0, inc_n=0.02, amplitude=0.3)
    currents = np.array([[2.0, 5.0, 20.0]])
    rates = model_of(neuron_type).rates(currents)
    adapted = model_of(nengo.LIF()).rates(currents - 0.02 * 0.3 * rates)
    np.testing.assert_allclose(rates, adapted, rtol=0.01)


@pytest.mark.parametrize("time", [0.05, 0.4])
@pytest.mark.parametrize("neuron_type", [nengo.AdaptiveLIF(tau_n=0.2), nengo.Izhikevich()], ids=str)
def test_a_presentation_is_averaged_from_the_reset_state(neuron_type, time):
    found, *_ = simulated(neuron_type, 0.001, time, copies=40)
    wanted = predicted(neuron_type, 0.001, presentation_time=time)
    # a mean over 40 initial voltages here, 16 there: within half a spike
    assert np.abs(wanted - found).max() * time < 0.5


def test_adaptation_that_chatters_is_not_taken_for_its_fixed_point():
    """A spike lowers a current of 1.1 by 5, which recovers within 50 ms."""
    neuron_type = nengo.AdaptiveLIF(tau_n=0.01, inc_n=0.05)
    fixed = 0.0
    for _ in range(2000):
        fixed += 0.01 * (nengo.LIF().rates(1.1 - 0.05 * fixed, [1.0], [0.0]).item() - fixed)
    assert fixed == pytest.approx(2, abs=0.1)
    rate = model_of(neuron_type).rates(np.array([[1.1]])).item()
    assert rate == pytest.approx(13.1, abs=0.3)
    assert nn.explain_neuron(neuron_type, 1.0, gain=1.1).rate == rate


@pytest.mark.parametrize(
    "neuron_type, tolerance, effect",
    [
        (nengo.AdaptiveLIF(tau_n=0.1, inc_n=0.02), 3.0, 20),
        (nengo.AdaptiveLIFRate(tau_n=0.1, inc_n=0.02), 3.0, 20),
        (nengo.Izhikevich(), 4.0, 4),
        (nengo.LIF(tau_ref=0.0005), 16.0, 30),
        (nengo.SpikingRectifiedLinear(), 0.2, 1.5),
        (nengo.RegularSpiking(nengo.Tanh()), 3.0, 200),
        (nengo.LIFRate(), 3.0, 30),
    ],
    ids=str,
)
def test_noise_changes_rates_as_simulated(neuron_type, tolerance, effect):
    """Deviations are five times the threshold, with 50 neurons for each mean and 1 s."""
    noise = nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, 5), scale=False)
    found, *_ = simulated(neuron_type, 0.001, 1.0, noise=noise, copies=50)
    deviation = np.full((1, CURRENTS.size), 5.0)
    model = model_of(neuron_type)
    wanted = model.rates(CURRENTS[None], deviation, presentation_time=1.0)[0]
    quiet = model.rates(CURRENTS[None], presentation_time=1.0)[0]
    assert np.abs(wanted - found).max() < tolerance
    assert np.abs(quiet - found).max() > effect


def test_a_grid_of_currents_interpolates_what_is_stepped():
    model = model_of(nengo.AdaptiveLIF(tau_n=0.1))
    rng = np.random.default_rng(0)
    many = rng.gamma(2, 2, (300, 40)) - 1
    deviation = rng.uniform(0.5, 3, many.shape)
    settings = {"dt": 0.001, "presentation_time": 0.2}
    whole = model.rates(many, **settings)
    np.testing.assert_allclose(model.rates(many[:5], **settings), whole[:5], atol=5)  # one spike
    noisy = model.rates(many, deviation, **settings)
    np.testing.assert_allclose(model.rates(many[:5], deviation[:5], **settings), noisy[:5], atol=12)


@pytest.mark.parametrize(
    "neuron_type",
    [
        nengo.RectifiedLinear(0.5),
        nengo.LIFRate(amplitude=0.1),
        nengo.Tanh(),
        nengo.AdaptiveLIFRate(),
        nengo.PoissonSpiking(nengo.LIFRate(), amplitude=0.2),
        nengo.StochasticSpiking(nengo.Tanh()),
        nengo.RegularSpiking(nengo.RectifiedLinear()),
    ],
    ids=str,
)
def test_variance_of_the_output_under_noise(neuron_type):
    """A rate neuron's response to a noisy current reaches the next layer."""
    rng = np.random.default_rng(0)
    current, deviation = np.full((1, 4000), 3.0), np.full((1, 4000), 2.0)
    model = model_of(neuron_type)
    rates = model.rates(current, deviation, presentation_time=0.01)
    expected = model.amplitude**2 * model.variance(rates, current, deviation, 0.001)
    with nengo.Network(seed=0) as network:
        layer = nengo.Ensemble(
            4000, 1, neuron_type=neuron_type, gain=np.ones(4000), bias=np.zeros(4000)
        )
        source = nengo.Node(lambda t: 3 + 2 * rng.standard_normal(4000), size_out=4000)
        nengo.Connection(source, layer.neurons, synapse=None)
        probe = nengo.Probe(layer.neurons)
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run_steps(20, progress_bar=False)
        observed = simulator.data[probe].var()
    assert observed == pytest.approx(expected.mean(), rel=0.06)


class OwnStep(nengo.LIF):
    """Neurons that fire at twice the rate that their inherited `rates` returns."""

    def step(self, dt, J, output, **state):
        super().step(dt, 2 * J, output, **state)


class OwnRates(nengo.LIF):
    def rates(self, x, gain, bias):
        return 0.5 * super().rates(x, gain, bias)


class OtherDefault(nengo.LIF):
    def __init__(self, tau_ref=0.004, **settings):
        super().__init__(tau_ref=tau_ref, **settings)


class Squared(nengo.RectifiedLinear):
    def step(self, dt, J, output):
        output[...] = self.amplitude * np.maximum(J, 0) ** 2


def built(neuron_type, **settings):
    with nengo.Network(seed=0) as network:
        layer = nn.constant_input((3,))
        kernel = np.diag([1.0, 2.0, 3.0])
        layer = nn.dense(layer, kernel, neuron_type, gain=2.0, label="own", **settings)
    return network, layer


IMAGES = np.array([[0.5, 0.7, 1.0], [1.0, 0.0, 0.2]])


@pytest.mark.parametrize(
    "wrap", [lambda found: found, nengo.PoissonSpiking], ids=["unwrapped", "wrapped"]
)
def test_a_step_of_its_own_is_never_taken_for_its_base(wrap):
    _, layer = built(wrap(OwnStep()))
    for call in (nn.predict_rates, nn.diagnose):
        with pytest.raises(nn.InputError, match=r"no rate prediction for OwnStep.*register\(Own"):
            call(layer, IMAGES)
    assert model_of(OwnStep(tau_ref=0.01)).ceiling(0.001) == np.inf


def test_what_a_subclass_overrides_beside_its_step_is_respected():
    currents = np.array([[2.0, 5.0]])
    plain = model_of(nengo.LIF()).rates(currents)
    np.testing.assert_allclose(model_of(OwnRates(amplitude=0.1)).rates(currents), plain / 2)
    np.testing.assert_array_equal(
        model_of(OtherDefault()).rates(currents), model_of(nengo.LIF(tau_ref=0.004)).rates(currents)
    )
    assert model_of(OtherDefault()).ceiling(0.001) == 250
    assert isinstance(model_of(OwnRates()), type(model_of(nengo.LIF())))


@pytest.mark.parametrize(
    "wrap", [lambda found: found, nengo.RegularSpiking], ids=["unwrapped", "wrapped"]
)
def test_a_step_without_spikes_and_state_predicts_itself(wrap):
    """Its inherited `rates` would be right too; `LIFRate.rates` would not."""
    network, layer = built(wrap(Squared(amplitude=2.0)))
    result = nn.present(
        network, layer, IMAGES, presentation_time=2.0, readout="mean", progress=False
    )
    wanted = 2.0 * (2 * IMAGES * [1, 2, 3]) ** 2
    np.testing.assert_allclose(result.mean_output("own"), wanted, atol=0.51)
    spiking = layer.ensemble.neuron_type.spiking
    np.testing.assert_allclose(nn.predict_rates(layer, IMAGES), wanted if spiking else wanted / 2)


def test_neurons_that_act_on_each_other_are_stepped_row_by_row():
    class Divided(nengo.neurons.NeuronType):
        def step(self, dt, J, output):
            output[...] = J / np.abs(J).sum()

    rows = np.array([[1.0, 3.0], [2.0, 2.0]])
    np.testing.assert_allclose(model_of(Divided()).rates(rows), [[0.25, 0.75], [0.5, 0.5]])


def test_a_step_that_needs_more_than_its_state_is_not_called():
    class Drawn(nengo.neurons.NeuronType):
        def make_state(self, n_neurons, rng=np.random, dtype=None):
            return {"rng": rng}

        def step(self, dt, J, output, rng):
            output[...] = rng.uniform(size=J.shape)

    with pytest.raises(nn.InputError, match="no rate prediction for Drawn"):
        model_of(Drawn()).rates(np.ones((1, 2)))


def one_class(base=nengo.neurons.NeuronType):
    """Return a new type, so that no test sees another's registration."""

    class Quarter(base):
        """Integrates a quarter of its current; spikes once a step at most."""

        state = {"voltage": Choice([0.0])}
        spiking, negative = True, False

        def gain_bias(self, max_rates, intercepts):
            gain = 4 * np.asarray(max_rates) / (1 - np.asarray(intercepts))
            return gain, -gain * np.asarray(intercepts)

        def max_rates_intercepts(self, gain, bias):
            return (gain + bias) / 4, -bias / gain

        def rates(self, x, gain, bias):
            return np.maximum(self.current(x, gain, bias), 0) / 4

        def step(self, dt, J, output, voltage):
            voltage += dt * J / 4
            spiked = voltage >= 1
            output[...] = spiked / dt
            voltage[spiked] -= 1

    return Quarter


@pytest.mark.parametrize("model", [(), (SteppedModel,)], ids=["its rates", "stepped"])
def test_a_registered_type_is_predicted_without_a_model_of_its_own(model):
    quarter = one_class()
    kernels = [np.array([[0.5, 0.2], [0.3, 0.9], [-0.1, 0.4]]), np.array([[1.0, -0.3], [0.1, 0.8]])]
    with nengo.Network(seed=0):
        layer = nn.constant_input((3,))
        for label, kernel in zip("ab", (kernels[0], kernels[1] / 100), strict=True):
            layer = nn.dense(layer, kernel, quarter(), gain=400.0, bias=0.0, label=label)
    with pytest.raises(nn.InputError, match="no rate prediction for Quarter"):
        nn.predict_rates(layer, IMAGES)
    assert register(quarter, *model) is quarter
    wanted = np.maximum(np.maximum(IMAGES @ kernels[0], 0) @ kernels[1], 0) * 100
    np.testing.assert_allclose(nn.predict_rates(layer, IMAGES), wanted, rtol=0.02, atol=0.6)
    result = nn.present(layer.network, layer, IMAGES, presentation_time=0.5, progress=False)
    assert all(row["rms_spikes"] < 2 for row in nn.compare(result, layer, IMAGES).layers)


def test_registering_names_what_it_needs():
    with pytest.raises(nn.InputError, match="got one that inherits"):
        register(OwnRates)
    with pytest.raises(nn.InputError, match="derived from nengo's NeuronType, got LIF"):
        register(nengo.LIF())


def test_a_registered_step_holds_for_subclasses_that_inherit_it():
    quarter = register(one_class())

    class Sub(quarter):
        pass

    class Other(quarter):
        def step(self, dt, J, output, voltage):
            super().step(dt, J + 1, output, voltage)

    assert model_of(Sub()).rates(np.array([[8.0]])).item() == 2
    with pytest.raises(nn.InputError, match="no rate prediction for Other"):
        model_of(Other()).rates(np.array([[8.0]]))


def test_a_step_that_fails_is_named():
    class Failing(one_class()):
        def step(self, dt, J, output, voltage):
            output[...] = np.array([np.inf]) - np.inf

    register(Failing, SteppedModel)
    with pytest.raises(nn.InputError, match="Failing in steps of 0.01 s, in which its step fails"):
        model_of(Failing()).rates(np.array([[8.0]]), dt=0.01)


def test_starting_states_of_each_neuron_are_drawn_from():
    """Voltages are given neuron by neuron, and adaptation starts above 0."""
    slow = nengo.AdaptiveLIF(
        tau_n=5.0, initial_state={"adaptation": Choice([3.0]), "voltage": np.array([0.1, 0.9, 0.5])}
    )
    settings = {"presentation_time": 0.5}
    late = model_of(slow).rates(np.array([[5.0]]), **settings).item()
    plain = model_of(nengo.AdaptiveLIF(tau_n=5.0)).rates(np.array([[5.0]]), **settings).item()
    assert late < 0.7 * plain


@pytest.mark.parametrize("neuron_type", [nengo.LIF(), nengo.AdaptiveLIF(tau_rc=0.01)], ids=str)
def test_steps_that_forget_the_voltage_are_refused_by_predictions_too(neuron_type):
    _, layer = built(neuron_type)
    with pytest.raises(nn.InputError, match=r"dt: expected at most 0\.[36] s .* got 1 s"):
        nn.predict_rates(layer, IMAGES, dt=1.0)


def test_direct_mode_is_named():
    with pytest.raises(nn.InputError, match="Direct mode"):
        model_of(nengo.Direct()).rates(np.ones((1, 1)))


@pytest.mark.parametrize(
    "neuron_type, activation, threshold",
    [
        (nengo.LIF(), "relu", 1.0),
        (nengo.AdaptiveLIFRate(), "relu", 1.0),
        (nengo.SpikingRectifiedLinear(), "relu", 0.0),
        (nengo.PoissonSpiking(nengo.LIFRate()), "relu", 1.0),
        (nengo.RegularSpiking(nengo.Sigmoid()), "sigmoid", None),
        (nengo.Tanh(), "tanh", None),
        (nengo.Izhikevich(), None, None),
        (OwnStep(), None, None),
    ],
    ids=str,
)
def test_activation_and_threshold(neuron_type, activation, threshold):
    model = model_of(neuron_type)
    assert (model.activation, model.threshold) == (activation, threshold)


@pytest.mark.parametrize(
    "neuron_type, dt, ceiling",
    [
        (nengo.LIF(), 0.001, 500),
        (nengo.LIF(), 0.01, 100),
        (nengo.LIF(tau_ref=0), 0.001, 1000),
        (nengo.Izhikevich(), 0.002, 500),
        (nengo.LIFRate(tau_ref=0), 0.001, np.inf),
        (nengo.RegularSpiking(nengo.LIFRate(tau_ref=0.0001)), 0.001, 10_000),
        (nengo.RegularSpiking(nengo.LIFRate(amplitude=2)), 0.001, 1000),
        (nengo.StochasticSpiking(nengo.Sigmoid(0.004)), 0.1, 250),
        (nengo.SpikingRectifiedLinear(), 1.0, np.inf),
    ],
    ids=str,
)
def test_ceiling_is_what_a_huge_current_gives(neuron_type, dt, ceiling):
    model = model_of(neuron_type)
    assert model.ceiling(dt) == pytest.approx(ceiling)
    if ceiling < np.inf:
        assert model.rates(np.array([[1e6]]), dt=dt).item() == pytest.approx(ceiling, rel=2e-3)


@pytest.mark.parametrize(
    "neuron_type, tuning",
    [
        (nengo.SpikingRectifiedLinear(), (100.0, 0.0)),
        (nn.IntegrateAndFire(), (100.0, 0.0)),
        (nengo.LIF(), (2.0, 1.0)),
        (nengo.RegularSpiking(nengo.Tanh()), (1.0, 0.0)),
        (nengo.StochasticSpiking(nengo.RectifiedLinear()), (100.0, 0.0)),
    ],
    ids=str,
)
@pytest.mark.parametrize("poisson", [False, True], ids=["constant", "poisson"])
@pytest.mark.parametrize("tau", [0.005, 0.05])
def test_what_a_synapse_leaves_of_spikes(neuron_type, tuning, poisson, tau):
    """Regular spikes leave a tenth of the variance of independent ones; Poisson input more."""
    rng = np.random.default_rng(3)
    kernels = rng.normal(0.1, 0.5, (40, 60)) / 6, rng.normal(size=(60, 10))
    with nengo.Network(seed=0):
        layer = nn.poisson_input((40,), 255.0) if poisson else nn.constant_input((40,))
        gain, bias = tuning
        layer = nn.dense(layer, kernels[0], neuron_type, gain=gain, bias=bias, label="h")
        layer = nn.dense(layer, kernels[1], None, synapse=tau, label="o")
    images = rng.uniform(size=(4, 40))
    expected = nn.explain.prediction.predict(layer, images, noise=True)[-1].variance.mean()
    settings = {"presentation_time": 3.0, "readout": "last_step", "progress": False}
    outputs = nn.present(layer.network, layer, images, **settings).outputs
    found = outputs[:, 500:].var(axis=1).mean()
    assert 0.4 < found / expected < 1.15
    if not poisson:
        assert found / expected > 0.9
