"""Loading models: from the hub, a folder, or the package that carries SmolLM2."""

from analysis.models.load import check_device, fetch_model, load_model

__all__ = ["check_device", "fetch_model", "load_model"]
