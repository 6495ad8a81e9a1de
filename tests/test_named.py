"""A result by label, by layer and by Nengo object: `nengonet.results.named`."""

import copy
import pickle

import nengo
import numpy as np
import pytest

import nengonet as nn

RUN = {"presentation_time": 0.05, "progress": False}


@pytest.fixture(scope="module")
def ran():
    with nengo.Network(seed=2) as net:
        pixels = nn.constant_input((3,))
        net.first = nn.dense(pixels, np.eye(3), nengo.LIF(amplitude=0.5), gain=20.0, label="first")
        net.second = nengo.Ensemble(4, 1, neuron_type=nengo.LIF(), label="second")
        nengo.Connection(net.first.output, net.second.neurons, transform=np.ones((4, 3)))
        net.sum = nengo.Node(size_in=1, label="sum")
        nengo.Connection(net.second.neurons, net.sum, transform=np.ones((1, 4)), synapse=None)
        net.named = nengo.Probe(net.second.neurons, label="named")
        net.filtered = nengo.Probe(net.second.neurons, synapse=0.01, sample_every=0.002)
    images = np.random.default_rng(0).random((5, 3))
    net.images = images
    result = nn.present(
        net, net.sum, images, probes="all", rasters=[net.second], keep=[net.first, "second"], **RUN
    )
    return net, result


def test_labels_layers_and_objects_are_the_same(ran):
    net, result = ran
    for label, objects in {
        "first": (net.first, net.first.ensemble, net.first.output),
        "second": (net.second, net.second.neurons),
    }.items():
        for each in objects:
            assert result.counts[each] is result.counts[label]
            np.testing.assert_array_equal(result.rates(each), result.rates(label))
            np.testing.assert_array_equal(result.mean_output(each), result.mean_output(label))
            assert result[each].label == label
            assert each in result.counts
    assert result.spikes[net.second] is result.spikes["second"]
    assert result.operations[net.sum] is result.operations["sum"]


def test_what_a_layer_has(ran):
    net, result = ran
    found = result["second"]
    assert (found.shape, found.amplitude, found.spiking) == ((4,), 1.0, True)
    np.testing.assert_array_equal(found.raster.sum(axis=1), found.counts)
    np.testing.assert_array_equal(found.counts.sum(axis=1), found.spikes)
    np.testing.assert_allclose(found.rates, found.counts / 0.05)
    np.testing.assert_allclose(result["first"].mean_output, 0.5 * result["first"].rates)
    assert repr(found) == "<Result of 'second', shape (4,), 5 images>"
    part = result[net.second.neurons[1::2]]
    assert part.shape == (2,)
    np.testing.assert_array_equal(part.counts, found.counts[:, 1::2])
    np.testing.assert_array_equal(part.raster, found.raster[..., 1::2])
    np.testing.assert_array_equal(result.rates(net.second.neurons[[3, 0]]), found.rates[:, [3, 0]])


def test_probes(ran):
    net, result = ran
    reference = nn.present(net, net.sum, net.images, probes="all", simulator="reference", **RUN)
    for probe, name in ((net.named, "named"), (net.filtered, "probe 1")):
        assert result.data[probe] is result.data[name]
        np.testing.assert_allclose(result.data[name], reference.data[name], atol=1e-9)
    assert result.data["named"].shape == (5, 50, 4)
    assert result.data[net.filtered].shape == (5, 25, 4)
    np.testing.assert_array_equal(result.data["named"].sum(axis=1) * 0.001, result.counts["second"])
    by_name = nn.present(net, net.sum, net.images, probes=["named"], n_jobs=2, **RUN)
    np.testing.assert_array_equal(by_name.data[net.named], result.data["named"])
    none = nn.present(net, net.sum, net.images, **RUN)
    with pytest.raises(nn.InputError, match=r"was not recorded; .* none; .*probes=\[probe\]"):
        none.data[net.named]
    with pytest.raises(nn.InputError, match="unknown probe 'name'.*did you mean 'named'"):
        nn.present(net, net.sum, net.images, probes=["name"], **RUN)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda net, result: result["secnd"], "any of input, first, second, sum.*mean 'second'"),
        (lambda net, result: result.counts["secnd"], "unknown layer 'secnd'.*mean 'second'"),
        (lambda net, result: result.rates(3), "unknown layer 3"),
        (lambda net, result: result.rates(nengo.Network()), "unknown layer"),
        (lambda net, result: result.counts["sum"], "sum: the layer does not spike"),
        (lambda net, result: result.rates(net.sum), "sum: the layer does not spike"),
        (lambda net, result: result["sum"].mean_output, "sum: .* name it in keep"),
        (lambda net, result: result["first"].raster, "first: .* name it in rasters"),
        (lambda net, result: result.operations["first"], "first: no spikes reach"),
        (lambda net, result: result[net.second.neurons[:1]].spikes, "expected a whole layer"),
        (lambda net, result: result.data["nmed"], "expected any of named, .*mean 'named'"),
    ],
)
def test_what_there_is_not(ran, ask, message):
    net, result = ran
    with pytest.raises(nn.InputError, match=message) as caught:
        ask(net, result)
    assert "\n" not in str(caught.value)


def test_it_is_still_a_dict(ran):
    _, result = ran
    with pytest.raises(KeyError):
        result.counts["nothing"]
    assert result.counts.get("nothing", 7) == 7
    assert "nothing" not in result.counts
    assert sorted(result.counts) == ["first", "second"]
    assert isinstance(result.counts, dict)


def test_objects_of_another_network_are_unknown(ran):
    _, result = ran
    with nengo.Network():
        other = nengo.Ensemble(4, 1, label="second")
    with pytest.raises(nn.InputError, match="unknown layer <Ensemble 'second'>"):
        result.rates(other)


def test_a_label_of_several_stands_for_none_without_the_network(tmp_path):
    """Ensembles of an EnsembleArray share a label, so a file cannot know which is meant."""
    with nengo.Network(seed=2) as net:
        source = nengo.Node(np.zeros(2))
        arrays = [nengo.networks.EnsembleArray(5 + n, 2, label="array") for n in range(2)]
        for each in arrays:
            nengo.Connection(source, each.input)
        pair = [nengo.Probe(each.output, label="out") for each in arrays]
        alone = nengo.Ensemble(3, 2, label="array 0")
        nengo.Connection(source, alone)
    ensembles = [each for array in arrays for each in array.ensembles]
    result = nn.present(net, [*ensembles, alone], [[0.5, -1.0]], probes=pair, **RUN)
    result.save(tmp_path / "result.h5")
    assert [result.counts[each].shape for each in ensembles] == [(1, 5), (1, 5), (1, 6), (1, 6)]
    for other in (pickle.loads(pickle.dumps(result)), nn.load_result(tmp_path / "result.h5")):
        for each in ensembles:
            with pytest.raises(nn.InputError, match="names array_.+array_.*share this label"):
                other.counts[each]
        with pytest.raises(nn.InputError, match="names out, out 1, .*share this label"):
            other.data[pair[1]]
        np.testing.assert_array_equal(other.rates(alone), result.rates(alone))


def test_an_output_of_parts_has_a_label_of_its_own():
    """It is refused if a layer has that label, as their counts would be confused."""
    with nengo.Network(seed=2) as net:
        source = nengo.Node(np.zeros(2))
        first, last = (nengo.Ensemble(4, 2, label=label) for label in ("a[:2]", "a"))
        nengo.Connection(source, first)
        nengo.Connection(first, last)
    images = [[0.5, -1.0]]
    with pytest.raises(nn.InputError, match=r"different labels, got a\[:2\], a, a\[:2\]; give"):
        nn.present(net, last.neurons[:2], images, **RUN)
    first.label = "b"
    part = last.neurons[:2]
    result = nn.present(net, part, images, keep=[part], **RUN)
    assert list(result.counts) == ["a[:2]"]
    np.testing.assert_array_equal(result.counts[part], result.steps.sum(axis=1))


def test_copies_and_files_know_labels(ran, tmp_path):
    net, result = ran
    result.save(tmp_path / "result.h5")
    for other in (
        pickle.loads(pickle.dumps(result)),
        copy.deepcopy(result),
        nn.load_result(tmp_path / "result.h5"),
    ):
        np.testing.assert_array_equal(other.rates(net.second), result.rates("second"))
        np.testing.assert_array_equal(other.counts[net.first], result.counts["first"])
        np.testing.assert_array_equal(other.data[net.named], result.data["named"])
        np.testing.assert_array_equal(other.data["probe 1"], result.data["probe 1"])
