"""Why a video could not be read."""

from __future__ import annotations

from feature_extraction.ledger import Kind
from vtr.errors import VtrError


class MediaError(VtrError):
    """A video could not be read.

    Attributes:
        stage: "open", "decode" or "sound".
        kind: the class of reason.
        reason: why, in words.
        decoder: "decord", "pyav", "images" or "ffmpeg"; empty when the file was never opened.
    """

    def __init__(self, stage: str, kind: Kind, reason: str, decoder: str = "") -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage, self.reason, self.decoder = stage, reason, decoder
        self.kind: Kind = kind

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, Kind, str, str]]:
        return MediaError, (self.stage, self.kind, self.reason, self.decoder)
