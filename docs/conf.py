"""Sphinx' settings. Nothing here needs a network."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent / "_extensions"))

from nengonet.version import __version__

project = "nengonet"
copyright = "the authors of nengonet, MIT licence"
release = version = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "nengonet_pages",
]
exclude_patterns = ["_build", "results"]
# Single backticks in docstrings name objects; those that are not on these pages stay plain.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more: shapes and units
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# A shape such as (n_images, n_neurons) is no reference to one of several attributes of that name.
suppress_warnings = ["ref.python"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"nengonet {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]
