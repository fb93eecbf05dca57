"""The causal check: what breaks when heads are removed."""
