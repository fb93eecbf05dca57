"""The same questions put to many models and checkpoints, and a small model that is trained here."""
