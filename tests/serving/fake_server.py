"""A real server over the made-up gallery: python fake_server.py SETTINGS, a JSON object. It says its port on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

from fake_gallery import FakeRetriever, extract

from vtr.serving.limits import Limits
from vtr.serving.server import serve


def main() -> None:
    """Serve."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    retriever = FakeRetriever(settings.pop("paths", {"a": None, "b": None}), settings.pop("seconds", 0.0))
    limits = Limits(**settings.pop("limits", {}))
    serve(retriever, port=0, extract=extract, limits=limits, **settings)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
