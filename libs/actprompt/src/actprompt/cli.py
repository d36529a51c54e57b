"""The ``actprompt`` command: ``--help`` and ``--version``; it has no subcommand yet."""

from __future__ import annotations

from collections.abc import Sequence

import icube_common.cli
from actprompt import __version__

DESCRIPTION = "Action recognition from video with frozen vision-language models and learnable prompts."
YET = "No subcommand is there yet."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after the program's name; by default those of the process.

    Returns:
        The exit status: 0 done, 2 wrong input, 1 anything else.
    """
    return icube_common.cli.main("actprompt", f"{DESCRIPTION} {YET}", __version__, {}, argv)
