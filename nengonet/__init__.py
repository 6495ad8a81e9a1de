"""Build spiking networks by hand in plain Nengo from pretrained Keras weights.

``__init__.pyi`` lists the public names. Each is imported on first use, so that ``nengonet --help``
and tab completion import none of them.
"""

import lazy_loader

from nengonet.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
