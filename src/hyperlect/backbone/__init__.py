"""Loading an encoder, and where adapters act in each family of encoders."""

from .backbone import Backbone, MlmStart, encoder_digest
from .families import FAMILIES, Family, family_of
from .loading import load_backbone
from .slots import AdapterSlots

__all__ = [
    "FAMILIES",
    "AdapterSlots",
    "Backbone",
    "Family",
    "MlmStart",
    "encoder_digest",
    "family_of",
    "load_backbone",
]
