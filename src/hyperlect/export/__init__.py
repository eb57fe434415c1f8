"""Taking it elsewhere: a run → the hub, with its model card."""

from .hub import push_to_hub
