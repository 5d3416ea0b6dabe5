"""Finding: what `vtr search`, `vtr serve` and Python callers search with. `from vtr.retrieval import Retriever`."""

from vtr.retrieval.filters import Filters
from vtr.retrieval.hits import Hit, Moment, Snippet, Stretch
from vtr.retrieval.retriever import Retriever

__all__ = ["Filters", "Hit", "Moment", "Retriever", "Snippet", "Stretch"]
