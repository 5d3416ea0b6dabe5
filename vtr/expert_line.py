"""One line of the table of experts: what a user should know of an expert before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from vtr.types import Modality  # it needs torch, and `vtr doctor` must run where torch is missing

Device = Literal["cpu", "gpu or cpu"]
Needs = Literal["packaged", "hub or folder", "a file of weights"]


@dataclass(frozen=True, slots=True)
class Expert:
    """One line of the table.

    Attributes:
        name: the expert's name in configs, stores and models.
        modality: what it reads: still frames, moving frames, sound, or text found in either.
        summary: what its features are, in words a user can choose by.
        packages: Python modules its default extractor needs; `pip install 'vtr[experts]'` brings them.
        dim: length of a feature; "by model" where the model decides, with that of the default model.
        window: what one feature covers.
        device: where its model can run.
        pretrained_on: the data its default weights were trained on.
        licence: the licence of the default weights, as their publishers state it.
        needs: where weights come from: "packaged", installed with the package and used offline; "hub or folder", a
            hub name or a local folder in Hugging Face layout; "a file of weights", which the user downloads.
        model: the default model; None where the user must name one (`settings.NAME.model`).
        model_types: the types of models it reads, as their config.json names them.
        settings: settings of `ExtractConfig` that shape its features and not every expert's.
        takes: the settings of its own that it reads, `settings.NAME.*`; any other is refused.
    """

    name: str
    modality: Modality
    summary: str
    packages: tuple[str, ...] = ()
    dim: str = "by model"
    window: str = "a frame"
    device: Device = "gpu or cpu"
    pretrained_on: str = "see the model"
    licence: str = "see the model"
    needs: Needs = "hub or folder"
    model: str | None = None
    model_types: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
