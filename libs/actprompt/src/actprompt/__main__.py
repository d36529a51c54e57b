"""``python -m actprompt``: the ``actprompt`` command."""

import sys

from actprompt.cli import main

sys.exit(main())
