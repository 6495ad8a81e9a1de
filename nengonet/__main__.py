"""``python -m nengonet``."""

from nengonet.cli import main

main(prog_name="nengonet")
