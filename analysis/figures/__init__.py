"""The heatmaps: drawing, laying out, showing and exporting them."""
