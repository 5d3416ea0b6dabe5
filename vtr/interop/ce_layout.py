"""Where things are in CE's release for MSR-VTT: the experts' pickles, the text features, the lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtr.errors import InputError, nearest
from vtr.types import ExpertSpec, Modality
from vtr.workspace import Workspace

CAPTIONS = "raw-captions.pkl"
FULL_LISTS = ("train_list_full.txt", "val_list_full.txt", "test_list_full.txt")
PLACES = (".", "structured-symlinks", "high-quality/structured-symlinks")
"""Where the release lies, seen from the folder that is given."""

TEXT_FOLDER = "aggregated_text_feats"
TEXT_NAMES = {"w2v_MSRVTT_openAIGPT": "openai"}
"""The name that CE's configurations give to a file of text features."""


@dataclass(frozen=True, slots=True)
class Published:
    """One of the paper's experts: its pickle in the release, what it reads, what it was trained on."""

    path: str
    modality: Modality
    pretrained_on: str


PUBLISHED: Mapping[str, Published] = {
    "imagenet.resnext101_32x48d.0": Published(
        "aggregated_imagenet_25fps_256px_stride1_offset0/resnext101_32x48d-avg.pickle",
        "image",
        "Instagram hashtags; ImageNet",
    ),
    "imagenet.senet154.0": Published(
        "aggregated_imagenet_25fps_256px_stride1_offset0/senet154-avg.pickle", "image", "ImageNet"
    ),
    "r2p1d.r2p1d-ig65m.0": Published(
        "aggregated_r2p1d_30fps_256px_stride32_offset0_inner_stride1/r2p1d-ig65m-avg.pickle", "video", "IG-65M"
    ),
    "i3d.i3d.0": Published(
        "aggregated_i3d_25fps_256px_stride25_offset0_inner_stride1/i3d-avg.pickle", "video", "Kinetics"
    ),
    "scene.densenet161.0": Published(
        "aggregated_scene_25fps_256px_stride1_offset0/densenet161-avg.pickle", "image", "Places365"
    ),
    "face": Published("aggregated_face_feats/facefeats-avg.pickle", "image", "VGGFace2"),
    "ocr": Published("aggregated_ocr_feats/ocr-raw.pickle", "text", "Synth90K; Google News"),
    "audio": Published("aggregated_audio_feats/Audio_MSRVTT_new.pickle", "audio", "YouTube-8M"),
    "speech": Published("aggregated_speech/speech-w2v.pickle", "text", "Google Speech; Google News"),
}
"""The nine experts of the paper. Their paths are what CE's `visual_feat_paths` makes of `configs/base_config.json`."""


@dataclass(frozen=True)
class ReleasedFile:
    """One pickle of features, of videos or of captions."""

    name: str
    path: Path
    is_text: bool = False

    @property
    def label(self) -> str:
        """The name in the failure ledger and in the record of the import."""
        return f"text_features/{self.name}" if self.is_text else self.name

    def store(self, workspace: Workspace) -> Path:
        """The feature store it goes to."""
        return workspace.text_features if self.is_text else workspace.features

    def items(self, video_id: str, captions: Mapping[str, Sequence[str]]) -> list[str]:
        """The ids that features of a video go by: its own, or its captions'."""
        if not self.is_text:
            return [video_id]
        return [f"{video_id}#{place}" for place in range(len(captions.get(video_id, ())))]

    def spec(self, dim: int) -> ExpertSpec:
        """What the features are."""
        if self.is_text:
            trained = "BooksCorpus" if self.name == "openai" else "not stated"
            return ExpertSpec(self.name, dim, "text", None, f"ce-release/{self.name}", pretrained_on=trained)
        known = PUBLISHED.get(self.name)
        modality: Modality = known.modality if known else "video"
        trained = known.pretrained_on if known else "not stated"
        return ExpertSpec(self.name, dim, modality, None, f"ce-release/{self.name}", pretrained_on=trained)


def release_root(source: Path) -> Path:
    """Return the folder that holds `raw-captions.pkl`: `source`, or `structured-symlinks` in it.

    Raises:
        InputError: there is none.
    """
    for place in PLACES:
        if (source / place / CAPTIONS).is_file():
            return source / place
    problem = "does not hold" if source.is_dir() else "is not a folder that holds"
    raise InputError(
        f"{source} {problem} {CAPTIONS}, nor does {PLACES[1]} in it. Give the folder of CE's release that holds "
        f"{CAPTIONS} and the folders aggregated_*."
    )


def find_experts(root: Path) -> dict[str, ReleasedFile]:
    """Return expert -> its file: those of the paper that are there, then all others in folders `aggregated_*`.

    Raises:
        InputError: two files would go by one name.
    """
    found = {name: ReleasedFile(name, root / p.path) for name, p in PUBLISHED.items() if (root / p.path).is_file()}
    known = {root / published.path for published in PUBLISHED.values()}
    for path in sorted(root.glob("aggregated_*/*.pickle")):
        if path in known or path.parent.name == TEXT_FOLDER:
            continue
        name = _plain(f"{path.parent.name.removeprefix('aggregated_')}.{path.stem}")
        if name in found:
            raise InputError(f"{path} and {found[name].path} would both be expert {name}. Rename one of them.")
        found[name] = ReleasedFile(name, path)
    return found


def find_texts(root: Path) -> list[ReleasedFile]:
    """Return the files of text features."""
    paths = [path for path in sorted((root / TEXT_FOLDER).glob("*")) if path.suffix in (".pickle", ".pkl")]
    return [ReleasedFile(_plain(TEXT_NAMES.get(path.stem, path.stem)), path, is_text=True) for path in paths]


def _plain(name: str) -> str:
    """Return a name that can be a folder's: letters, digits, '.', '-' and '_', none hidden."""
    return re.sub(r"[^A-Za-z0-9._-]|^\.", "_", name)


def choose_experts(root: Path, there: Mapping[str, ReleasedFile], names: Sequence[str] | None) -> list[str]:
    """Return the experts to import.

    Args:
        root: the release, for messages.
        there: the experts it holds.
        names: those asked for; None for those of the paper.

    Raises:
        InputError: one is not there, or there are none.
    """
    if names is None:
        if chosen := [name for name in there if name in PUBLISHED]:
            return chosen
        first = next(iter(PUBLISHED.values())).path
        others = f" It holds {', '.join(there)}: name them with --experts." if there else ""
        raise InputError(f"{root} holds none of the paper's experts, {first} and others were expected.{others}")
    for name in names:
        if name not in there:
            missing = f": {PUBLISHED[name].path} is not there" if name in PUBLISHED else ""
            held = ", ".join(there) or "none"
            raise InputError(f"{root} has no expert '{name}'{missing}.{nearest(name, list(there))} It has: {held}.")
    if not names:
        raise InputError(f"no expert was named. {root} has: {', '.join(there) or 'none'}.")
    return list(dict.fromkeys(names))
