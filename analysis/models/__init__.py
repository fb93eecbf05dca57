"""Loading models: from the hub, a folder, or the package that carries SmolLM2."""

from analysis.models.load import fetch_checkpoint, load_model

__all__ = ["fetch_checkpoint", "load_model"]
