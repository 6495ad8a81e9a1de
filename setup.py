"""Metadata stands in setup.cfg; here only what it cannot say."""

from setuptools import setup

# The pretrained files live in weights/ beside the scripts that trained them, and are installed
# as nengonet/pretrained, so that a plain `pip install .` finds them from any directory.
setup(package_dir={"nengonet": "nengonet", "nengonet.pretrained": "weights"})
