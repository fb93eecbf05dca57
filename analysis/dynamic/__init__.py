"""What every head writes when the model runs, and how far the weights tell it."""
