"""The prompts that models run on, as tokens of one model."""
