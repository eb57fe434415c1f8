"""Readers (one file a format), label alignment, encoding, batching and sampling."""
