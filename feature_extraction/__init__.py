"""Videos to multi-expert features: decode once per video, feed every expert, write the feature store."""
