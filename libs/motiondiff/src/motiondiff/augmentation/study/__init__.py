"""Augmentation study: does generated motion help recognition of people that nothing in a row has been trained on?

- `config`: settings; `arms`: rows of the table; `subsets`: folds over people, shares of the clips;
- `sources`: generators and their sets; `mixture`: how real and synthetic clips are combined, chosen on inner people;
- `classify`: classifiers of the rows; `budget`: number of trainings, and time by a probe; `runner`: all cells;
- `summary`, `report`: t intervals over people, tables, plot, page.
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {"StudyConfig": "config", "augmentation_study": "runner"})
