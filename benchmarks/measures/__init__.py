"""What speed.py measures: a module for each group of rows."""
