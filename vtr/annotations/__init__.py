"""Videos, captions and splits: read, checked, and kept in the workspace."""
