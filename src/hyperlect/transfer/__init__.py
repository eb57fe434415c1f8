"""Bringing in a language after training: from raw sentences, a few labels, or other languages."""

from .adapt import Adaptation, Settings, adapt, unlabelled_rows
from .add_language import Added, add_language, give_vector
from .neighbours import weigh_neighbours
