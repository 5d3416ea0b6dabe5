"""Published weights that the user downloads, one file an expert: where each is to be had, and whether it is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from feature_extraction.damage import weights_damage
from vtr.errors import UnavailableError
from vtr.extract_config import ExtractConfig


@dataclass(frozen=True, slots=True)
class Release:
    """Published weights.

    Attributes:
        file: the file's name as released.
        url: the file, or the page that links it.
        model: what they are, in words.
        pretrained_on: the data they were trained on.
    """

    file: str
    url: str
    model: str
    pretrained_on: str

    @property
    def again(self) -> str:
        """What to do about a file that is not this one."""
        return f"download {self.file} again from {self.url}"


RELEASES: Mapping[str, Release] = {
    "s3d": Release(
        "S3D_kinetics400.pt", "https://github.com/kylemin/S3D (its page links the file)", "S3D", "Kinetics-400"
    ),
    "vggish": Release(
        "vggish-10086976.pth",
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        "VGGish",
        "a preliminary version of YouTube-8M",
    ),
    "densenet": Release(
        "densenet161_places365.pth.tar",
        "http://places2.csail.mit.edu/models_places365/densenet161_places365.pth.tar",
        "DenseNet-161",
        "Places365-Standard",
    ),
}
"""Expert -> the weights it reads."""


def released_file(config: ExtractConfig, expert: str) -> Path:
    """Return the file of weights that is set for an expert.

    Raises:
        UnavailableError: none is set, it does not exist, or it is no whole file of weights; the message says where to
            get it.
    """
    release, model = RELEASES[expert], config.of(expert).model
    path = None if model is None else Path(model).expanduser()
    if path is None or not path.is_file():
        what = f"settings.{expert}.model is not set" if path is None else f"there is no file {path}"
        raise UnavailableError(
            f"expert {expert}: {what}. Download {release.file} from {release.url}, and name it: "
            f"--set settings.{expert}.model=/where/you/put/{release.file}"
        )
    if wrong := weights_damage(path):
        raise UnavailableError(not_whole(path, expert, wrong, release.again))
    return path


def not_whole(path: Path, expert: str, wrong: str, mend: str) -> str:
    """Return what is said of a file that is no whole file of weights: how it is `wrong`, and what mends it."""
    return (
        f"expert {expert}: {path} {wrong}. Tensors and plain containers were expected, as torch.save writes them; "
        f"{mend}."
    )
