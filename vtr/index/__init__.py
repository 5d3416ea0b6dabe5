"""Indexes: built from embeddings, changed, and searched."""
