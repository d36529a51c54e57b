"""``python -m debian_mri``: the ``debian-mri`` command."""

import sys

from debian_mri.cli import main

sys.exit(main())
