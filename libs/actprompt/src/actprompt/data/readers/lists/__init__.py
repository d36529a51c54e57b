"""Lists of clips and labels: dialects, columns, splits and class names."""
