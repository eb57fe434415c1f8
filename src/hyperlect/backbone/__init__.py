"""Loading an encoder, where adapters act in each family of encoders, and the hooks for them."""

from .backbone import Backbone, MlmStart, Shared, encoder_digest
from .families import FAMILIES, AdapterHooks, Family, LoraHooks, Projection, family_of
from .loading import BUILTIN, encoder_limits, load_backbone
