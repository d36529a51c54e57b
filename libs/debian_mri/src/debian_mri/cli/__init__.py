"""The ``debian-mri`` command: each subcommand is one function call of the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import icube_common.cli
from debian_mri import RESEARCH_ONLY, __version__
from debian_mri.cli import data, models, volumes
from icube_common.cli import Command
from icube_common.knowledge.commands import knowledge_command

DESCRIPTION = (
    f"Brain MRI of neurodegenerative diseases with frozen vision-language models and learnable prompts. {RESEARCH_ONLY}"
)
DOMAIN = "structural magnetic resonance images of the adult brain"
QUESTIONS = (
    "What does a brain MRI of a person with {name} look like?",
    "Which changes of the brain can be seen on MRI in {name}?",
    "How does a radiologist recognise {name} on a brain MRI?",
    "What distinguishes {name} from similar conditions on a brain MRI?",
    "Write a caption of a brain MRI of a person with {name}.",
)


COMMANDS: Mapping[str, Command] = {
    **data.COMMANDS,
    **volumes.COMMANDS,
    "knowledge": knowledge_command(prompts=QUESTIONS, domain=DOMAIN),
    **models.COMMANDS,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; arguments and exit status as for `icube_common.cli.main`."""
    return icube_common.cli.main("debian-mri", DESCRIPTION, __version__, COMMANDS, argv)
