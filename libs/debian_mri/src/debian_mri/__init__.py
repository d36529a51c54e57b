"""Brain MRI of neurodegenerative diseases with frozen vision-language models and learnable prompts.

Nothing but the package and its command is here yet.
"""

import logging

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())
