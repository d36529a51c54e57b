"""Imaging biomarkers of atrophy: measurement, published directions and the layer of a model that weighs them."""
