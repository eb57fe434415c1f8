"""The HTTP service: requests of many clients, answered in mixed batches of all cells."""
