"""Metadata stands in setup.cfg; here only what it cannot say."""

import configparser
import pathlib
import re
import runpy

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).parent


def long_description() -> str:
    """Return README.md with links that also lead somewhere on the page of a package index."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    home = settings["metadata"]["project_urls"].split()[2]  # of "Source = https://…"
    tag = "v" + runpy.run_path(str(ROOT / "nengonet" / "version.py"))["__version__"]
    return with_whole_links((ROOT / "README.md").read_text(encoding="utf-8"), home, tag)


def with_whole_links(text: str, home: str, tag: str) -> str:
    """Return Markdown whose links to files of this folder lead to the tag's files at home."""
    here = r"(?!\w+:|#)"  # neither another site nor a heading of this page
    image = r"!\[[^]]*\]\("
    link = rf"(?<!!)\[(?:[^]\[]|{image}[^)]*\))*\]\("  # of words, or of an image
    text = re.sub(rf'({image}|src="){here}', rf"\1{home}/raw/{tag}/", text)
    return re.sub(rf"({link}){here}", rf"\1{home}/blob/{tag}/", text)


class WithoutTraining(build_py):
    """Install the weights, but not the scripts beside them, which need Keras."""

    def find_package_modules(self, package, package_dir):
        """Return the modules to install, as setuptools asks for them."""
        if package == "nengonet.pretrained":
            return []
        return super().find_package_modules(package, package_dir)


# The pretrained files live in weights/ beside the scripts that trained them, and are installed
# as nengonet/pretrained, so that a plain `pip install .` finds them from any directory.
setup(
    cmdclass={"build_py": WithoutTraining},
    long_description=long_description(),
    package_dir={"nengonet": "nengonet", "nengonet.pretrained": "weights"},
)
