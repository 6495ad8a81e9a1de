"""Sphinx' settings. The build needs no network: see ``intersphinx_mapping``."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent / "_extensions"))

from nengonet.version import __version__

project = "nengonet"
copyright = "nengonet developers, MIT licence"
release = version = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "api_pages",
    "nengonet_pages",
    "site_pages",
]
exclude_patterns = ["_build", "results", "_inventories", "**/.ipynb_checkpoints"]

# Docstrings. Single backticks name objects; those that are not on these pages stay plain.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more: shapes and units
autodoc_mock_imports = ["bokeh"]  # of `nengonet.plots.interactive`; only the lab installs it
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# A shape such as (n_images, n_neurons) is no reference to one of several attributes of that name.
suppress_warnings = ["ref.python"]


def _objects(name: str, url: str) -> tuple[str, tuple]:
    """Return where names of another project are: its own list, else the few that are kept here."""
    return url, (None, f"_inventories/{name}.txt")  # the first that can be read


intersphinx_mapping = {
    "python": _objects("python", "https://docs.python.org/3/"),
    "numpy": _objects("numpy", "https://numpy.org/doc/stable/"),
    "nengo": _objects("nengo", "https://www.nengo.ai/nengo/"),
    # Keras publishes no list of its names.
    "keras": ("https://keras.io/", "_inventories/keras.txt"),
}
intersphinx_timeout = 5  # seconds

# Markdown and notebooks. A notebook that fails, fails the build.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds, for a cell
nb_execution_cache_path = str(pathlib.Path(__file__).parent / "_build" / "notebooks")
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars, and that tqdm would like widgets

copybutton_selector = "div[class*='highlight-']:not(.highlight-text) pre, div.cell_input pre"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = f"nengonet {release}"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "logo": {"text": f"nengonet {release}"},
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_nav_level": 1,
    "header_links_before_dropdown": 5,
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "footer_start": ["copyright"],
    "footer_end": [],
    # Not on the published examples', whose tables need the width.
    "secondary_sidebar_items": dict.fromkeys(
        ["index", "tutorials/*", "howto/*", "explanation/*", "reference/*", "reference/names/*"],
        ["page-toc"],
    ),
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
html_sidebars = {"index": [], "changes": [], "contributing": []}
