"""Captions ready to be batched; the states of a frozen encoder are computed once and kept in the workspace."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtr.config import TextConfig
from vtr.data.resident import put, send, take
from vtr.errors import WorkspaceError, counted, some
from vtr.files import atomic_directory, atomic_file
from vtr.progress import progress, say
from vtr.store.reader import FeatureStore
from vtr.types import Caption, TextBatch
from vtr.workspace import Workspace, fingerprint


class TextSource(Protocol):
    """What makes batches of texts: `vtr.models.text.TextInput`."""

    config: TextConfig

    @property
    def dim(self) -> int:
        """H, the length of a state."""
        ...

    def key(self) -> str:
        """Return a hash under which cached states are valid."""

    @property
    def padding(self) -> int:
        """The token id that padding holds."""
        ...

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each of N texts."""

    def says_nothing(self, texts: Sequence[str]) -> list[bool]:
        """Return of each of N texts whether none of its tokens tells it from others."""

    def states(self, texts: Sequence[str], advance: Callable[[int], None] | None = None) -> Tensor:
        """Return frozen sentence states [N, H]."""

    def token_states(self, texts: Sequence[str], advance: Callable[[int], None] | None = None) -> list[Tensor]:
        """Return frozen states [L, H] of the tokens of each of N texts."""


PLAIN_WORD = re.compile("[A-Za-z0-9]")
"""What has one is a word to every tokeniser; other captions are looked at more closely."""

TOKENISED_AT_ONCE = 4096
"""Captions between two calls of the tokeniser."""


@dataclass(frozen=True)
class TokenIds:
    """The token ids of N texts end to end.

    Attributes:
        values: [sum L] int64.
        offsets: [N + 1] int64; text n has places offsets[n] to offsets[n + 1].
        padding: the id that padding holds.
    """

    values: NDArray[np.int64]
    offsets: NDArray[np.int64]
    padding: int

    def batch(self, ids: tuple[str, ...], rows: NDArray[np.int64]) -> TextBatch:
        """Return the batch of the texts at `rows`, padded to the longest."""
        places = _padded(self.offsets, rows)
        mask = places >= 0
        tokens = torch.from_numpy(np.where(mask, self.values[places], self.padding))
        return TextBatch(ids, input_ids=tokens, attention_mask=torch.from_numpy(mask.astype(np.int64)))


def _padded(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return places [N, L] of the tokens of the texts at `rows`, -1 on padding."""
    lengths = offsets[rows + 1] - offsets[rows]
    slot = np.arange(int(lengths.max(initial=1)))
    return np.where(slot < lengths[:, None], offsets[rows][:, None] + slot, -1)


@dataclass(frozen=True)
class TokenStates:
    """The token states of N texts end to end, on disk and mapped into memory.

    Attributes:
        values: [sum L, H].
        offsets: [N + 1] int64; text n has rows offsets[n] to offsets[n + 1].
    """

    values: NDArray[np.floating]
    offsets: NDArray[np.int64]

    def batch(self, ids: tuple[str, ...], rows: NDArray[np.int64]) -> TextBatch:
        """Return the batch of the texts at `rows`, padded to the longest."""
        places = _padded(self.offsets, rows)
        mask = places >= 0
        states = self.values[places].astype(np.float32)
        states[~mask] = 0
        return TextBatch(
            ids, attention_mask=torch.from_numpy(mask.astype(np.int64)), token_states=torch.from_numpy(states)
        )

    @classmethod
    def cached(
        cls, folder: Path, lengths: Sequence[int], dim: int, make: Callable[[], Iterable[NDArray[np.floating]]]
    ) -> TokenStates:
        """Return the states kept in `folder`; where there are none, they are made and kept first.

        Args:
            folder: where they are kept.
            lengths: L of each text, where nothing is kept yet.
            dim: H.
            make: yields the states [L, H] of each text in turn.
        """
        values, offsets = folder / "values.npy", folder / "offsets.npy"
        if not folder.exists():
            ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
            with atomic_directory(folder) as temporary:
                np.save(temporary / offsets.name, ends)
                shape = (int(ends[-1]), dim)
                written = np.lib.format.open_memmap(temporary / values.name, "w+", np.float32, shape)
                for at, states in enumerate(make()):
                    written[ends[at] : ends[at + 1]] = states
                written.flush()
        return cls(np.load(values, mmap_mode="r", allow_pickle=False), np.load(offsets, allow_pickle=False))


@dataclass(frozen=True)
class SentenceStates:
    """The sentence states of N texts, on disk and mapped into memory.

    Attributes:
        values: [N, H].
    """

    values: NDArray[np.floating]

    def batch(self, ids: tuple[str, ...], rows: NDArray[np.int64]) -> TextBatch:
        """Return the batch of the texts at `rows`."""
        return TextBatch(ids, states=torch.from_numpy(self.values[rows].astype(np.float32)))


@dataclass(frozen=True)
class ResidentTexts:
    """Texts on a device.

    Attributes:
        texts: where they came from; its offsets say where a text's tokens are.
        values: its values, on the device.
    """

    texts: TokenIds | TokenStates | SentenceStates
    values: Tensor

    def batch(self, ids: tuple[str, ...], rows: NDArray[np.int64]) -> TextBatch:
        """Return the batch of the texts at `rows`, the same to the bit as `texts` makes, on the device."""
        if isinstance(self.texts, SentenceStates):
            return TextBatch(ids, states=take(self.values, send(rows, self.values.device), 0))
        places = send(_padded(self.texts.offsets, rows), self.values.device)
        mask = (places >= 0).long()
        if isinstance(self.texts, TokenIds):
            return TextBatch(ids, take(self.values, places, self.texts.padding), mask)
        return TextBatch(ids, attention_mask=mask, token_states=take(self.values, places, 0))


class CaptionTable:
    """N captions, ready to be batched by row.

    Args:
        captions: the captions.
        source: tokenises them or gives their frozen states.
        workspace: keeps frozen states, and holds imported ones.

    Raises:
        WorkspaceError: the imported states that `source.config.features` names are not there, or lack a caption.
    """

    def __init__(self, captions: Sequence[Caption], source: TextSource, workspace: Workspace) -> None:
        self.captions = tuple(captions)
        self._source = source
        self._cache = workspace.cache
        self._held: TokenIds | TokenStates | SentenceStates | ResidentTexts
        self._row = np.arange(len(self.captions))
        mode, imported = source.config.mode, source.config.features
        if mode == "frozen":
            self._held = SentenceStates(self._frozen_states())
        elif mode == "frozen_tokens" and imported is not None:
            self._held = self._imported_states(FeatureStore(workspace.text_features), imported)
        elif mode == "frozen_tokens":
            self._held = self._token_states()
        else:
            self._held = self._token_ids()
        if imported is None:
            self._say_what_says_nothing()

    @property
    def dim(self) -> int:
        """H, the length of a state."""
        held = self._held.texts if isinstance(self._held, ResidentTexts) else self._held
        return int(held.values.shape[1]) if isinstance(held, TokenStates) else self._source.dim

    def to(self, device: torch.device, room: int) -> tuple[CaptionTable, int]:
        """Return a table with the captions on a device, and the bytes they take there; 0 where they do not fit.

        A batch is then made on the device, the same to the bit. This table stays as it is.

        Args:
            device: where to; on a CPU, mapped states are copied into memory.
            room: bytes they may take.
        """
        if isinstance(self._held, ResidentTexts) or self._held.values.nbytes > room:
            return self, 0
        table = copy.copy(self)
        table._held = ResidentTexts(self._held, put(self._held.values, device))
        return table, self._held.values.nbytes

    def batch(self, rows: Sequence[int]) -> TextBatch:
        """Return a batch of the captions at `rows`."""
        ids = tuple(self.captions[row].id for row in rows)
        return self._held.batch(ids, self._row[list(rows)])

    def _say_what_says_nothing(self) -> None:
        odd = [caption for caption in self.captions if not PLAIN_WORD.search(caption.text)]
        found = self._source.says_nothing([caption.text for caption in odd]) if odd else []
        silent = [caption.id for caption, nothing in zip(odd, found, strict=True) if nothing]
        if silent:
            say(
                f"{len(silent)} of {counted(len(self.captions), 'caption')} have no word that the text model knows; "
                f"they are used all the same: {some(silent)}"
            )

    def _distinct(self) -> list[str]:
        """Return the captions' texts, each once; captions are then batched from the rows of these."""
        texts = sorted({caption.text for caption in self.captions})
        row_of = {text: row for row, text in enumerate(texts)}
        self._row = np.array([row_of[caption.text] for caption in self.captions], np.int64)
        return texts

    def _token_ids(self) -> TokenIds:
        texts = self._distinct()
        found: list[list[int]] = []
        with progress("tokenise captions", len(texts), "texts") as advance:
            for at in range(0, len(texts), TOKENISED_AT_ONCE):
                found += self._source.token_ids(texts[at : at + TOKENISED_AT_ONCE])
                advance(min(TOKENISED_AT_ONCE, len(texts) - at), "")
        offsets = np.concatenate(([0], np.cumsum([len(ids) for ids in found]))).astype(np.int64)
        return TokenIds(np.array([i for ids in found for i in ids], np.int64), offsets, self._source.padding)

    def _frozen_states(self) -> NDArray[np.floating]:
        texts = self._distinct()
        path = self._cache / f"text-{fingerprint([self._source.key(), texts])}.npy"
        if not path.exists():
            with progress("encode captions", len(texts), "texts") as advance:
                states = self._source.states(texts, lambda count: advance(count, "")).numpy()
            with atomic_file(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, states)
        kept: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
        return kept

    def _token_states(self) -> TokenStates:
        texts = self._distinct()
        folder = self._cache / f"tokens-{fingerprint([self._source.key(), texts])}"
        states: list[Tensor] = []
        if not folder.exists():
            with progress("encode captions", len(texts), "texts") as advance:
                states = self._source.token_states(texts, lambda count: advance(count, ""))
        lengths = [len(of_one) for of_one in states]
        return TokenStates.cached(folder, lengths, self._source.dim, lambda: (of_one.numpy() for of_one in states))

    def _imported_states(self, store: FeatureStore, name: str) -> TokenStates:
        ids = [caption.id for caption in self.captions]
        if name not in store.experts:
            raise WorkspaceError(f"{store.root} has no imported text features '{name}'. Run `vtr import ce-features`.")
        if lacking := sorted(set(ids) - set(store.video_ids(name))):
            raise WorkspaceError(f"{store.root / name} lacks {len(lacking)} of the captions, {lacking[0]} among them.")
        dim = store.spec(name).dim
        folder = self._cache / f"tokens-{fingerprint([store.fingerprint([name]), ids])}"
        found = {} if folder.exists() else store.read(name, ids)
        lengths = [len(found[i].values) for i in ids] if found else []
        return TokenStates.cached(folder, lengths, dim, lambda: (found[i].values for i in ids))
