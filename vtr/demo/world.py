"""The script of the small world: which clips there are and what their captions say. Pure data, from a seed.

Few looks (scene and object) are shared by many clips, which differ in how the object moves, which word is on screen and
what is heard. So no expert alone tells the clips apart, and some captions can be answered only by motion, only by
reading, or only by listening.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vtr.types import Part

SCENES = {
    "beach": ("on a beach", "by the sea", "on the sand near the water"),
    "forest": ("in a forest", "among trees", "in the woods"),
    "city": ("in a city at night", "in front of dark buildings", "downtown after dark"),
    "snow": ("in the snow", "on a snowy field", "in a winter landscape"),
    "desert": ("in a desert", "between sand dunes", "in a dry, sandy place"),
    "room": ("in a room", "inside a house", "indoors, in front of a wall"),
}
OBJECTS = {
    "ball": ("ball", "round ball", "sphere"),
    "car": ("car", "automobile", "vehicle"),
    "fish": ("fish", "swimming animal", "sea creature"),
    "boat": ("boat", "sailing boat", "little ship"),
    "star": ("star", "star shape", "five-pointed star"),
    "house": ("house", "little house", "hut"),
}
COLOURS = {
    "red": ("red",),
    "blue": ("blue",),
    "yellow": ("yellow",),
    "green": ("green",),
    "purple": ("purple", "violet"),
}
MOTIONS = {
    "right": ("moves from left to right", "drifts to the right", "goes right"),
    "left": ("moves from right to left", "drifts to the left", "goes left"),
    "up": ("rises", "floats upwards", "goes up"),
    "down": ("sinks", "falls slowly", "goes down"),
    "bounce": ("bounces up and down", "hops again and again", "keeps jumping"),
    "circle": ("goes round in circles", "circles around", "moves along a circle"),
    "grow": ("gets bigger and bigger", "comes closer", "grows"),
    "shrink": ("gets smaller and smaller", "goes away into the distance", "shrinks"),
    "shake": ("shakes from side to side", "trembles quickly", "wobbles left and right"),
    "still": ("stands still", "does not move", "stays where it is"),
}
WORDS = (
    "harvest", "pepper", "castle", "garden", "winter", "orange", "rocket", "museum",
    "planet", "violin", "bakery", "island", "market", "window", "dragon", "silver",
    "summer", "pirate", "candle", "bridge", "doctor", "guitar", "hammer", "jungle",
    "kitchen", "library", "monkey", "parade", "rabbit", "school", "theatre", "umbrella",
    "volcano", "wizard", "airport", "butter", "camera", "diamond", "engine", "forest",
)  # fmt: skip
PHRASES = (
    "good morning everyone", "the train leaves at noon", "please close the door", "dinner is ready now",
    "the weather is nice today", "my brother lives in london", "we won the football game", "take your medicine",
    "the computer is broken", "happy birthday to you", "turn left at the corner", "the baby is sleeping",
    "let us go swimming", "i lost my wallet", "the coffee is too hot", "she plays the piano",
    "call the police immediately", "the school bus is late", "open your books", "he is climbing the mountain",
    "there is a spider in the bath", "wash your hands with soap", "the president gave a speech",
    "the dog ate my homework",
    "add two cups of sugar", "the plane has landed", "welcome to the museum", "fasten your seat belt",
    "the movie starts at eight", "we need more money",
)  # fmt: skip
SOUNDS = {
    "siren": ("a siren wails", "an alarm sounds", "a siren can be heard"),
    "drum": ("a drum is beaten", "drum beats are heard", "there is a steady drumming"),
    "rain": ("it sounds like rain", "a steady hiss is heard", "rain can be heard"),
    "bell": ("a bell rings", "bells are ringing", "a bell can be heard"),
    "birds": ("birds are chirping", "chirps are heard", "birdsong is heard"),
    "hum": ("a low hum is heard", "something hums deeply", "there is a deep drone"),
}
READING = (
    "the sign says {word}", "the word {word} is written on the screen", "{word} is shown in letters",
    "a text reads {word}", "you can read the word {word}",
)  # fmt: skip
SPEAKING = (
    'someone says "{phrase}"', 'a voice says "{phrase}"', 'a person is heard saying "{phrase}"',
    'the narrator says "{phrase}"', 'you can hear the words "{phrase}"',
)  # fmt: skip
RATES = ((25, 1), (25, 1), (25, 1), (25, 1), (25, 1), (25, 1), (30000, 1001), (24000, 1001), (15, 1), (50, 1))
SIZES = ((320, 240), (320, 240), (320, 240), (320, 240), (320, 240), (322, 242), (400, 224), (224, 400), (240, 240))

Hearing = Literal["speech", "sound", "silence", "none"]
Kind = Literal["full", "look", "motion", "reading", "listening"]
KINDS: tuple[Kind, ...] = ("full", "look", "motion", "reading", "listening")
CAPTIONS = 20
NUM_LOOKS = 16


@dataclass(frozen=True, slots=True)
class Scene:
    """One clip of the script.

    Attributes:
        word: on screen, None where there is none.
        hearing: what the sound track holds; "none" means that there is no sound track.
        phrase: what is spoken, for "speech".
        sound: what is heard, for "sound".
        rate: frames per second as a fraction.
        size: width and height in pixels.
        seed: of all that is drawn at random within the clip.
    """

    id: str
    part: Part
    scene: str
    colour: str
    object: str
    motion: str
    word: str | None
    hearing: Hearing
    phrase: str | None
    sound: str | None
    rate: tuple[int, int]
    size: tuple[int, int]
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class WrittenCaption:
    """One caption and what it can be answered by."""

    text: str
    kind: Kind


def make_scenes(seed: int, counts: dict[Part, int], *, speech: bool) -> list[Scene]:
    """Return the script.

    No two clips agree in look, motion, word and sound, so no clip of one part occurs in another.

    Args:
        seed: same seed, same script.
        counts: clips in each part.
        speech: whether a speech synthesiser is here; without it the clips meant to speak carry a sound instead.
    """
    draw = random.Random(seed)
    looks = _looks(draw)
    scenes: list[Scene] = []
    seen: set[tuple[object, ...]] = set()
    parts: list[Part] = [part for part, count in counts.items() for _ in range(count)]
    while len(scenes) < len(parts):
        scene = _scene(draw, looks, f"clip{len(scenes):04d}", parts[len(scenes)], speech)
        content = (scene.scene, scene.colour, scene.object, scene.motion, scene.word, scene.phrase, scene.sound)
        if content not in seen:
            seen.add(content)
            scenes.append(scene)
    return scenes


def _looks(draw: random.Random) -> list[tuple[str, str, str]]:
    things = draw.sample([(colour, thing) for colour in COLOURS for thing in OBJECTS], NUM_LOOKS)
    scenes = itertools.cycle(SCENES)
    return [(scene, colour, thing) for scene, (colour, thing) in zip(scenes, things, strict=False)]


def _scene(draw: random.Random, looks: Sequence[tuple[str, str, str]], name: str, part: Part, speech: bool) -> Scene:
    scene, colour, thing = draw.choice(looks)
    hearing: Hearing = draw.choices(("speech", "sound", "silence", "none"), (0.5, 0.36, 0.06, 0.08))[0]
    if hearing == "speech" and not speech:
        hearing = "sound"
    return Scene(
        id=name,
        part=part,
        scene=scene,
        colour=colour,
        object=thing,
        motion=draw.choice(list(MOTIONS)),
        word=draw.choice(WORDS) if draw.random() < 0.7 else None,
        hearing=hearing,
        phrase=draw.choice(PHRASES) if hearing == "speech" else None,
        sound=draw.choice(list(SOUNDS)) if hearing == "sound" else None,
        rate=draw.choice(RATES),
        size=draw.choice(SIZES),
        seconds=round(draw.uniform(2.8, 3.4), 1),
        seed=draw.randrange(2**31),
    )


def write_captions(scene: Scene) -> list[WrittenCaption]:
    """Return the 20 captions of a clip. Each tells only some of what there is to see, read and hear."""
    draw = random.Random(scene.seed + 1)
    makers = {"full": _full, "look": _look, "motion": _motion, "reading": _reading, "listening": _listening}
    kinds: list[Kind] = ["full", "full", "full", "full", "full", "full", "full", "full"]
    kinds += ["look", "look", "look", "motion", "motion", "motion"]
    for _ in range(3):
        kinds.append("reading" if scene.word else "full")
        kinds.append("listening" if scene.phrase or scene.sound else "full")
    return [WrittenCaption(makers[kind](scene, draw), kind) for kind in kinds]


def _object(scene: Scene, draw: random.Random) -> str:
    return f"a {draw.choice(COLOURS[scene.colour])} {draw.choice(OBJECTS[scene.object])}"


def _look(scene: Scene, draw: random.Random) -> str:
    thing, place = _object(scene, draw), draw.choice(SCENES[scene.scene])
    return draw.choice((f"{thing} {place}", f"there is {thing} {place}", f"a video of {thing} {place}"))


def _motion(scene: Scene, draw: random.Random) -> str:
    moves = draw.choice(MOTIONS[scene.motion])
    return draw.choice((f"something {moves}", f"an object {moves}", f"the thing in the picture {moves}"))


def _reading(scene: Scene, draw: random.Random) -> str:
    return draw.choice(READING).format(word=scene.word)


def _listening(scene: Scene, draw: random.Random) -> str:
    if scene.phrase:
        return draw.choice(SPEAKING).format(phrase=scene.phrase)
    assert scene.sound is not None
    return draw.choice(SOUNDS[scene.sound])


def _full(scene: Scene, draw: random.Random) -> str:
    """Return a sentence of the object, its motion, and up to two of the place, the word and what is heard."""
    clauses = [f"{_object(scene, draw)} {draw.choice(MOTIONS[scene.motion])}"]
    rest = [draw.choice(SCENES[scene.scene])]
    if scene.word:
        rest.append(f"while {_reading(scene, draw)}")
    if scene.phrase or scene.sound:
        rest.append(f"and {_listening(scene, draw)}")
    chosen = sorted(draw.sample(range(len(rest)), k=min(len(rest), draw.choice((1, 2, 2)))))
    return " ".join(clauses + [rest[place] for place in chosen])
