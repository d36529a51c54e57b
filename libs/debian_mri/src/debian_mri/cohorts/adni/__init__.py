"""ADNI and other collections of LONI's Image and Data Archive."""
