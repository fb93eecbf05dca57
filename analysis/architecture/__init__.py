"""A model as transformers and transformer_lens describe it: its parts, run in float64."""
