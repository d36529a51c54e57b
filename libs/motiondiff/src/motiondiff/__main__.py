"""``python -m motiondiff``: the ``motiondiff`` command."""

import sys

from motiondiff.cli import main

sys.exit(main())
