"""The lab: a page with a knob for every number of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nengonet.exceptions import InputError

if TYPE_CHECKING:
    import numpy as np
    import panel

    from nengonet.layers.targets import Output


def lab(
    output: Output, images: np.ndarray, labels: np.ndarray | None = None, **settings: object
) -> panel.viewable.Viewable:
    """Show a network with knobs, its prediction and its run, in a notebook.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons or nengo.Node
        The last layer, as for `nengonet.present`. The lab works on a copy of the network.
    images : (n_images, ...) array_like
        As for `nengonet.present`.
    labels : (n_images,) array_like of int, optional
        Right classes, needed for accuracies.
    **settings
        Initial values of the knobs of the run: ``presentation_time``, ``dt``, ``seed``, ``readout``
        and ``n_images``. Plain Nengo objects also need ``network``.

    Returns
    -------
    page : panel.viewable.Viewable
        The page, which a notebook shows; ``page.show()`` opens it in a browser.

    Raises
    ------
    InputError
        Panel is not installed, an argument is out of range, or the network cannot be copied.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> page = nn.lab(layer, images)  # doctest: +SKIP
    >>> page.show()  # doctest: +SKIP
    """
    from nengonet.laboratory.state import of_output

    made = of_output(output, images, labels, **settings)
    check_panel()
    from nengonet.laboratory.page import page

    return page(made)


def check_panel() -> None:
    """Raise an error that states what to install, if Panel is missing."""
    try:
        import panel  # noqa: F401
    except ImportError as error:
        raise InputError(f'the lab needs Panel ({error}): pip install "nengonet[lab]"') from None
