"""What needs several rooms at once: evaluate, compare, search, report, status and experiments."""
