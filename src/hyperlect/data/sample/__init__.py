"""The sample corpus that ships with hyperlect; README.md in this folder is its data card."""

from pathlib import Path

FOLDER = Path(__file__).parent
"""Where the files are: ``{language}.{train,test}.tsv``."""
