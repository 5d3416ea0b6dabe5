"""The feature store to batches: features in ragged arrays, captions as tokens or states, both sampled."""
