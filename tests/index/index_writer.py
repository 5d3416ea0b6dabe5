"""A process that changes an index again and again, to be killed: `index_writer.py FOLDER SEED`.

The index holds the parts of `parts.make_part` that `members` tells from its fingerprint of embeddings.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np

from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart
from vtr.types import TextEmbeddings, VideoEmbeddings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from parts import make_part

GROUPS, OF_EACH = 12, 5


def group(number: int) -> EmbeddedPart:
    """Return one of the groups of videos that are added and removed; ids tell the group."""
    part = make_part(OF_EACH, 2, 0.3, seed=number)
    part.videos.present[:, 0] = 1  # without any expert, all scores would be 0 and tie
    videos = replace(part.videos, ids=tuple(f"g{number}-{row}" for row in range(OF_EACH)))
    texts = replace(part.texts, ids=tuple(f"g{number}-{row}" for row in range(2 * OF_EACH)))
    return replace(part, videos=videos, texts=texts)


def groups(members: list[int]) -> EmbeddedPart:
    """Return some groups as one part."""
    import torch

    held = [group(number) for number in members]
    return EmbeddedPart(
        held[0].experts,
        VideoEmbeddings(
            tuple(video_id for part in held for video_id in part.videos.ids),
            torch.cat([part.videos.vectors for part in held]),
            torch.cat([part.videos.present for part in held]),
        ),
        TextEmbeddings(
            tuple(text_id for part in held for text_id in part.texts.ids),
            torch.cat([part.texts.vectors for part in held]),
            torch.cat([part.texts.weights for part in held]),
        ),
        tuple(text for part in held for text in part.texts_plain),
        np.concatenate([part.video_of_text + OF_EACH * at for at, part in enumerate(held)]),
        Coverage("full", "test", OF_EACH * len(held), OF_EACH * len(held)),
    )


def name(members: set[int]) -> str:
    """Return what stands for the embeddings of these groups."""
    return ",".join(map(str, sorted(members)))


def main(folder: Path, seed: int) -> None:
    """Build, add and remove, for ever."""
    from vtr.index.build import build_index
    from vtr.index.change import add_videos, remove_videos
    from vtr.index.layout import read_state

    random = Random(seed)
    while True:
        members = set(map(int, read_state(folder).inputs["embed"].split(",")))
        number, act = random.randrange(GROUPS), random.random()
        if act < 0.2:
            build_index(folder, groups(sorted(members)), embed_output=name(members))
        elif number not in members or act < 0.4:
            add_videos(folder, group(number), embed_output=name(members | {number}))
        elif len(members) > 1:
            ids = group(number).videos.ids
            remove_videos(folder, ids, embed_output=name(members - {number}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
