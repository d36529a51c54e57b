"""The ``actprompt`` command: options in, one library call, one result out.

Heavy modules are imported inside the commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actprompt import __version__
from actprompt.cli.data import DATA_COMMANDS
from actprompt.cli.models import MODEL_COMMANDS
from icube_common import cli
from icube_common.knowledge.commands import knowledge_command

DESCRIPTION = "Action recognition from video with frozen vision-language models and learnable prompts."
DOMAIN = "short colour videos of people in everyday life"
QUESTIONS = (
    'Describe what a person who does the action "{name}" looks like.',
    'What does the action "{name}" look like in a video?',
    'How do body, hands and objects move during the action "{name}"?',
    'What distinguishes the action "{name}" from similar actions?',
    'Write a caption of a video of the action "{name}".',
)


COMMANDS: Mapping[str, cli.Command] = {
    **DATA_COMMANDS,
    "knowledge": knowledge_command(prompts=QUESTIONS, domain=DOMAIN),
    **MODEL_COMMANDS,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after the program's name; by default those of the process.

    Returns:
        The exit status: 0 done, 2 wrong input, 1 anything else.
    """
    return cli.main("actprompt", DESCRIPTION, __version__, COMMANDS, argv)
