"""Taking a model elsewhere: one file a format, and what all formats share."""

from .export import FORMATS, Exported, Format, export
