"""A model's own modules: where it keeps them, and what they do in float64."""
