"""Embeddings: vectors for texts."""
