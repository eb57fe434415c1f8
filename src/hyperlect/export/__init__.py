"""Taking a model elsewhere: one file a format; and to the hub, with its model card."""

from .export import FORMATS, Exported, Format, export
from .hub import push_to_hub
