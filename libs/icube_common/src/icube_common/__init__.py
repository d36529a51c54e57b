"""What the ICube libraries share: configuration, command lines, run folders, training loop, reports."""

import logging

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())
