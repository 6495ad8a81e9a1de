"""Build spiking networks by hand in plain Nengo from pretrained Keras weights.

The public names stand in ``__init__.pyi``, and are imported when they are first used:
``nengonet --help`` and the completion of a command at every tab need none of them.
"""

import lazy_loader

from nengonet.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
