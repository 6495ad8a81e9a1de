"""The parts of a study's description: its data, its networks, and the runs of `reproduce`."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import nengo
import numpy as np

import nengonet as nn
from nengonet.ann.unweighted import Pool
from nengonet.checks import as_seed
from nengonet.explain.diagnosis import Diagnosis
from nengonet.layers.initial import InitialStates
from nengonet.plain.script import Script
from nengonet.run.presentation import present
from nengonet.weights import weights_path

Arrays = tuple[np.ndarray, np.ndarray]
Path = str | os.PathLike | None


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set of a study, or a file of the same kind.

    Examples
    --------
    >>> from nengonet.studies.engine import Data
    >>> images, labels = Data("mnist").load(n_images=2)
    >>> images.shape
    (2, 28, 28)
    """

    #: Name for `nengonet.datasets.load`.
    name: str
    #: Shape of an image.
    shape: tuple[int, ...] = (28, 28)
    #: Number of classes.
    n_classes: int = 10

    def wanted(self, data: Path = None) -> str | None:
        """Return "all" where a folder of data exists, and None for the bundled sample."""
        return "all" if data is not None or os.environ.get("NENGONET_DATA") else None

    def load(
        self,
        split: str = "test",
        n_images: int | str | None = None,
        data: Path = None,
        *,
        progress: bool = False,
    ) -> Arrays:
        """Load images and labels from a folder, or from a user's ``.npz`` file."""
        if data is not None and not pathlib.Path(data).exists():
            raise nn.InputError(
                f"data: expected a folder with the data set, or an .npz file, got {data}, which "
                "does not exist"
            )
        n_images = self.wanted(data) if n_images is None else n_images
        if data is None or not pathlib.Path(data).is_file():
            where = {"data_dir": data, "progress": progress}
            return nn.datasets.load(self.name, split=split, n_images=n_images, **where)
        images, labels = nn.datasets.load_npz(data, split, n_images)
        if images[0].size != np.prod(self.shape) or labels.max() >= self.n_classes:
            raise nn.InputError(
                f"{data}: expected images of {' x '.join(map(str, self.shape))} pixels with labels "
                f"0 to {self.n_classes - 1}, got images of shape {images[0].shape} with labels up "
                f"to {labels.max()}"
            )
        return images.reshape(-1, *self.shape), labels


@dataclasses.dataclass(frozen=True)
class Given:
    """The arguments beside a study's own options: files, a number of images, a seed.

    Examples
    --------
    >>> from nengonet.studies.engine import Data, Given
    >>> given = Given(Data("mnist"), n_images=5)
    >>> list(given.load_weights("mnist_dense"))
    ['hidden', 'output']
    """

    #: The study's data.
    dataset: Data
    #: A weights file instead of the bundled one.
    weights: Path = None
    #: A folder of data sets, or an ``.npz`` file.
    data: Path = None
    #: The number of images, ``"all"``, or None for the study's default.
    n_images: int | str | None = None
    #: Seed of all randomness.
    seed: int = 0
    #: Whether to show progress bars.
    progress: bool = False
    #: Bits of a number: 32 or 64.
    precision: int = 64

    def __post_init__(self) -> None:
        """Check the seed, and accept the name of a bundled file."""
        as_seed(self.seed)
        if self.weights is not None:
            object.__setattr__(self, "weights", weights_path(self.weights))

    def load_weights(self, bundled: str) -> nn.Weights:
        """Load the caller's weights file, or a bundled one."""
        return nn.load_weights(nn.pretrained(bundled) if self.weights is None else self.weights)

    def images(self, split: str = "test", n_images: int | str | None = None) -> Arrays:
        """Load images and labels from the caller's data."""
        return self.dataset.load(split, n_images, self.data, progress=self.progress)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One network of a study, and the settings of its presentation.

    Examples
    --------
    >>> from nengonet import studies
    >>> study = studies.get("forum-mnist")
    >>> case = study.build()
    >>> case.showing
    {'presentation_time': 0.35, 'dt': 0.001, 'readout': 'spike_count'}
    """

    #: Name of the network in the report's settings.
    name: str
    #: The last layer.
    output: nn.Layer
    #: The layers of the ANN, from first to last.
    layers: Sequence[nn.LayerWeights | Pool]
    #: The file of their weights.
    weights: Path
    #: Presentation time of an image, in seconds.
    presentation_time: float
    #: Length of a step, in seconds.
    dt: float = 0.001
    #: See `nengonet.readout.scores`.
    readout: str = "spike_count"
    #: Options with which the network was built.
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    #: As `nengonet.present` takes them.
    initial_states: InitialStates = dataclasses.field(default_factory=dict)
    #: The published accuracy of exactly this network.
    published: float | None = None
    #: Layers whose counts are kept; by default all.
    keep: Sequence[str] | None = None
    #: ``values(result, labels)`` returns what a sweep records in addition to accuracy, ties and the
    #: other common values, or in place of them.
    values: Callable[[nn.Result, np.ndarray], dict] = lambda result, labels: {}
    #: Seed of all randomness.
    seed: int = 0
    #: The first stages of a budget (name, layers, how), for a network that stands for an ANN other
    #: than the trained one.
    anns: Sequence[tuple[str, Sequence[nn.LayerWeights | Pool], str]] = ()

    def __repr__(self) -> str:
        """Write name and last layer."""
        return f"<Case {self.name!r}: {self.output}, {self.presentation_time:g} s an image>"

    @property
    def network(self) -> nengo.Network:
        """The network."""
        return self.output.network

    @property
    def showing(self) -> dict[str, object]:
        """The presentation time, the step and the readout."""
        return {name: getattr(self, name) for name in ("presentation_time", "dt", "readout")}

    def describe(self) -> dict:
        """Return the settings for a report: the options, how the network runs, and its tuning.

        The bias is left out where every neuron has its own, as with Keras biases.
        """
        tuning = {}
        for layer in self.output.upstream():
            if layer.ensemble is not None:
                bias = layer.ensemble.bias
                tuning[layer.label] = {
                    "gain": float(layer.ensemble.gain[0]),
                    **({"bias": float(bias[0])} if np.all(bias == bias[0]) else {}),
                    "amplitude": layer.amplitude,
                }
        return {
            "network": self.name,
            **self.settings,
            "readout": self.readout,
            "seed": self.seed,
            "weights": str(self.weights),
            "presentation_time": self.presentation_time,
            "dt": self.dt,
            "tuning": tuning,
        }

    def present(self, images: np.ndarray, **running: object) -> nn.Result:
        """Show images to the network as the study does; ``running`` goes to `nengonet.present`."""
        own = {name: getattr(self, name) for name in ("seed", "initial_states", "keep")}
        return present(self.network, self.output, images, **self.showing | own | running)

    def script(self, images: str | np.ndarray, labels: np.ndarray | None = None, **given) -> Script:
        """Write the network, shown these images, as `nengonet.as_script` does."""
        own = {name: getattr(self, name) for name in ("seed", "initial_states", "weights")}
        return nn.as_script(self.output, images, labels, **self.showing | own | given)

    def diagnose(self, images: np.ndarray, labels: np.ndarray) -> Diagnosis:
        """Predict what the network will do with these images, without a simulation."""
        return nn.diagnose(self.output, images, labels=labels, **self.showing)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of `reproduce`: options of the network, and replacements of the caller's arguments.

    Examples
    --------
    >>> from nengonet.studies.engine import Run
    >>> Run({"neurons": "lif"}, n_images=100)
    Run(options={'neurons': 'lif'}, n_images=100, given={}, rasters=False, running={})
    """

    #: Options of the network, by name.
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    #: Show only this many of the caller's images, from the first.
    n_images: int | None = None
    #: Files and a seed that replace the caller's.
    given: Mapping[str, object] = dataclasses.field(default_factory=dict)
    #: Whether to keep the spikes of all layers step by step.
    rasters: bool = False
    #: Further arguments of `nengonet.present`.
    running: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Sweeping:
    """One sweep of `reproduce`, of a function or of the study's own networks.

    Examples
    --------
    >>> from nengonet.studies.engine import Sweeping
    >>> Sweeping({"rate": [100.0, 250.0]}, seeds=5).seeds
    5
    """

    #: The grid, as `nengonet.sweep` takes it.
    grid: Mapping[str, Sequence] | Sequence[Mapping[str, Sequence]]
    #: The number of seeds, or the seeds.
    seeds: int | Sequence[int] = 1
    #: Arguments that are the same for all cells.
    constants: Mapping[str, object] = dataclasses.field(default_factory=dict)
    #: The function to call; by default the study's own measure of a network.
    function: Callable | None = None
    #: Name of the sweep to whose rows these rows are added.
    joins: str = ""


@dataclasses.dataclass(frozen=True)
class Variant:
    """Options of a network under one name, and its flag on the command line.

    Examples
    --------
    >>> from nengonet import studies
    >>> study = studies.get("forum-mnist")
    >>> list(study.variants)
    ['repaired', 'posted', 'obvious']
    """

    #: Options of the network, by name.
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    #: The flag on the command line.
    flag: str = ""
    #: Help text of the flag.
    help: str = ""
