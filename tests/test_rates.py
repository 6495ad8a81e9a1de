import numpy as np
import pytest

import nengonet as nn
from nengonet.rates import activations, full_scale


def test_activations_by_hand():
    hidden = nn.LayerWeights(
        kernel=[[1.0, -2.0], [0.5, 1.0]], bias=[0.1, 0.0], name="hidden", kind="Dense"
    )
    output = nn.LayerWeights(kernel=[[2.0, -1.0, 0.0], [1.0, 1.0, 1.0]], name="output")
    found = activations([hidden, output], [[0.4, 0.2], [0.0, 1.0]])
    assert list(found) == ["hidden", "output"]
    np.testing.assert_allclose(found["hidden"], [[0.6, 0.0], [0.6, 1.0]])
    np.testing.assert_allclose(found["output"], [[1.2, -0.6, 0.0], [2.2, 0.4, 1.0]])


def test_images_are_flattened_by_row_column_channel():
    image = np.arange(24.0).reshape(1, 2, 4, 3)
    kernel = np.zeros((24, 1))
    kernel[1 * 12 + 2 * 3 + 1] = 1  # row 1, column 2, channel 1
    layer = nn.LayerWeights(kernel=kernel, name="pick")
    assert activations([layer], image)["pick"][0, 0] == image[0, 1, 2, 1]


def test_the_files_own_activation_is_checked():
    layer = nn.LayerWeights(kernel=np.ones((2, 2)), name="hidden", config={"activation": "tanh"})
    with pytest.raises(nn.InputError, match="hidden: expected the activation relu, found tanh"):
        activations([layer, nn.LayerWeights(kernel=np.ones((2, 2)))], np.ones((1, 2)))


def test_full_scale_is_a_percentile_above_zero():
    values = np.r_[np.linspace(0, 1, 1001), 50.0]
    assert full_scale(values, percentile=99) == pytest.approx(0.991, abs=0.002)
    assert full_scale(np.array([-1.0] * 5000 + [0.25])) == 0.25
    with pytest.raises(nn.InputError, match="expected activations above 0"):
        full_scale(np.array([-1.0, -2.0]))
