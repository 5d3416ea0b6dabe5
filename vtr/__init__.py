"""Video-text retrieval: multi-expert features, a multi-modal transformer, the unified loss, a FAISS index."""

__version__ = "0.1.0"
