"""Libraries that would say the same in every worker."""

from __future__ import annotations

import os

VERBOSITY = "TRANSFORMERS_VERBOSITY"
"""The variable by which a user asks `transformers` for more, such as "warning"."""


def quiet_transformers() -> None:
    """Have `transformers` tell errors only, unless the user asks for more, and show no bars while it loads weights."""
    from transformers.utils import logging

    if VERBOSITY not in os.environ:
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
