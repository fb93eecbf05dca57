"""The explorer: two live heatmaps, a card for every head, in a notebook or on a page of its own.

- ``payload``: results as one JSON text that the front end reads;
- ``queries``: what one head writes, for which tokens, and where it attends;
- ``cards``: what a head's card shows, as frames;
- ``evidence``: the measured numbers that stand next to the static scores;
- ``widget``: the explorer in a notebook, with the kernel behind it;
- ``page``: the explorer as one HTML file without kernel, server or network;
- ``still``: the picture that stands in where neither runs;
- ``static/``: the one front end of both.
"""
