"""Scores read off the weights alone."""
