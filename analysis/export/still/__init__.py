"""Plotly figures as PNG, SVG and PDF without a browser, drawn by matplotlib.

1. ``resolved``: the figure with its template as plain dictionaries.
2. ``frame``: axes, titles, annotations and colour bars where plotly puts them.
3. ``traces``: heatmaps, points, lines, bands and error bars.
4. ``legends``: a box for each legend.
5. ``drawable``: the settings that are drawn, and so what of a figure is not.
6. ``svg_texts``: an SVG's texts, their widths kept in any font.
7. ``render``: the three formats.
"""
