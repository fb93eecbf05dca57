"""Results to the sentences and tables of the notebooks."""
