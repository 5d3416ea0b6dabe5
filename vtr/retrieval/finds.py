"""What can be found in a gallery, in words for whoever searches it."""

from __future__ import annotations

from collections.abc import Sequence

from vtr.experts import EXPERTS
from vtr.retrieval.facts import is_spoken
from vtr.store.reader import FeatureStore

SENSES = ("what is seen", "what is heard", "words spoken", "words on screen", "what else experts found")
SEEN, HEARD, SPOKEN, SHOWN, OTHER = range(len(SENSES))


def describe(experts: Sequence[str], store: FeatureStore | None) -> str:
    """Return what words can find with these experts, and what they cannot, in one or two sentences.

    Args:
        experts: those the model reads.
        store: their features, which say what experts of the user's own are.
    """
    groups: dict[int, list[str]] = {}
    for name in experts:
        groups.setdefault(_sense(name, store), []).append(name)
    parts = [f"{SENSES[sense]} ({', '.join(groups[sense])})" for sense in sorted(groups)]
    missing = [SENSES[sense] for sense in (SEEN, HEARD, SPOKEN, SHOWN) if sense not in groups]
    found = f"Words find videos by {_listed(parts, 'and')}."
    return f"{found} They cannot find {_listed(missing, 'or')}." if missing and OTHER not in groups else found


def _sense(name: str, store: FeatureStore | None) -> int:
    held = store if store is not None and name in store.experts else None
    modality = held.spec(name).modality if held is not None else EXPERTS[name].modality if name in EXPERTS else None
    if modality == "text":
        spoken = is_spoken(held, name) if held is not None else EXPERTS[name].summary.startswith(SENSES[SPOKEN])
        return SPOKEN if spoken else SHOWN
    return {"image": SEEN, "video": SEEN, "audio": HEARD}.get(modality or "", OTHER)


def _listed(names: Sequence[str], last: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
