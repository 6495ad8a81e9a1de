"""The command line: a thin shell over the library.

A command is a few lines that call one library function. Human-readable tables go to standard
output, progress to standard error; ``--json`` prints one JSON object and nothing else. A command
imports its code only when it runs, so that ``nengonet --help`` takes a tenth of a second.

Exit codes: 0 for success; 1 for a sweep with failed cells, or an error in nengonet itself (with a
traceback); 2 for bad input; 130 for Ctrl-C.
"""

from __future__ import annotations

import click

from nengonet.cli.bench import bench
from nengonet.cli.report import report
from nengonet.cli.scripts import script_command
from nengonet.cli.shared import Commands
from nengonet.cli.studies import GROUPS
from nengonet.cli.weights import weights
from nengonet.version import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nengonet")
def main() -> None:
    """Build spiking networks by hand in plain Nengo from pretrained Keras weights.

    Every command takes --json, and -h for its options.
    """


for _command in (*GROUPS, script_command("present"), report, weights, bench):
    main.add_command(_command)
