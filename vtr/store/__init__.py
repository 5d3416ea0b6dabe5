"""The Parquet feature store: its schema, writer, reader and failure ledger."""
