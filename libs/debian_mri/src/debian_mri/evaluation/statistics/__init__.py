"""Statistics that evaluations report beside the metrics: ROC and decision analysis, subgroups."""
