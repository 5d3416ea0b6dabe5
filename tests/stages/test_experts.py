"""The list that `vtr experts` prints."""

from __future__ import annotations

import pytest

from vtr.errors import ConfigError
from vtr.experts import EXPERTS
from vtr.extract_config import ExtractConfig
from vtr.stages import experts as stage
from vtr.stages.doctor import _expert
from vtr.stages.experts import experts


def rows(text: str) -> dict[str, tuple[str, str]]:
    """Return each expert's line and the note below it."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("name "))
    return {
        line.split()[0]: (line, note) for line, note in zip(lines[start + 1 :: 2], lines[start + 2 :: 2], strict=True)
    }


def test_every_expert_has_a_row_with_all_that_the_table_says() -> None:
    found = rows(experts())
    assert list(found) == list(EXPERTS)
    for name, (line, note) in found.items():
        expert = EXPERTS[name]
        for text in (expert.modality, expert.dim, expert.window, expert.device, expert.needs):
            assert text in line
        for text in (expert.summary, expert.pretrained_on, expert.licence, expert.model or ""):
            assert text in note
        assert note.endswith(f"; settings: {', '.join(expert.takes) or 'none'}")


def test_columns_line_up() -> None:
    lines = [line for line in experts().splitlines() if line and not line.startswith((" ", "Experts"))]
    column = lines[0].index("modality")
    assert {line[column - 2 : column] for line in lines} == {"  "}
    assert all(line[column] != " " for line in lines)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "has_module", lambda name: name != "dlib")
    found = rows(experts())
    assert found["face"][0].endswith("lacks dlib")
    assert found["appearance"][0].endswith("installed")
    assert found["clip"][0].endswith("fetched from the hub at first use")
    assert found["scene"][0].endswith("needs settings.scene.model")
    assert found["vggish"][0].endswith("needs settings.vggish.model")


def test_settings_add_names_and_models() -> None:
    config = ExtractConfig.model_validate(
        {
            "settings": {
                "sharp": {"kind": "image", "model": "google/siglip-base-patch16-224"},
                "s3d": {"model": "s3d.pt"},
            }
        }
    )
    found = rows(experts(config.settings))
    assert list(found) == [*EXPERTS, "sharp"]
    assert "google/siglip-base-patch16-224" in found["sharp"][1]
    assert found["s3d"][0].endswith("installed")
    with pytest.raises(ConfigError, match="no expert 'speach'"):
        experts(ExtractConfig.model_validate({"settings": {"speach": {"language": "en"}}}).settings)


def test_the_doctor_says_which_experts_need_weights_of_ones_own() -> None:
    found = {name: _expert(name) for name in ("motion", "scene", "s3d")}
    assert [one.state for one in found.values()] == ["ok", "optional", "optional"]
    assert "settings.s3d.model" in found["s3d"].mend
