"""A small world of real clips, rendered and taken through every stage."""
