"""The exact scorer: which questions about a head's logits are true, without all the logits."""
