"""Figures to files, and to the screen."""
