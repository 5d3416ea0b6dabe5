"""For tests: very small clips of many containers, made in this process within milliseconds, and ways to damage them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FRAMES = 64, 48, 10
SOUND_RATE = 48_000

FORMATS = {
    "mp4": ("mp4", "libx264", "aac"),
    "silent.mp4": ("mp4", "libx264", None),
    "mov": ("mov", "mpeg4", "pcm_s16le"),
    "mkv": ("matroska", "libx264", "flac"),
    "hevc.mkv": ("matroska", "libx265", None),
    "avi": ("avi", "mpeg4", "libmp3lame"),
    "webm": ("webm", "libvpx", "libopus"),
    "vp9.webm": ("webm", "libvpx-vp9", None),
    "ts": ("mpegts", "libx264", "aac"),
    "mpg": ("mpeg", "mpeg2video", None),
    "flv": ("flv", "flv", "libmp3lame"),
    "wmv": ("asf", "wmv2", None),
}
"""Name's ending -> container, video codec, audio codec or None."""


def plain(colour: Iterable[float], frames: int = FRAMES) -> list[NDArray[np.uint8]]:
    """Return frames of one colour, a little brighter from one to the next."""
    shades = np.asarray(list(colour), np.float64) + 2 * np.arange(frames)[:, None]
    pictures = np.broadcast_to(shades[:, None, None], (frames, HEIGHT, WIDTH, 3))
    return list(np.ascontiguousarray(pictures.clip(0, 255).astype(np.uint8)))


def moving(seed: int, frames: int = FRAMES) -> list[NDArray[np.uint8]]:
    """Return frames of noise that drifts, so that a codec has motion and detail to store."""
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return [np.roll(noise, (shift, 2 * shift), (0, 1)) for shift in range(frames)]


def make_clip(path: Path, pictures: Iterable[NDArray[np.uint8]], kind: str = "mp4", rate: int = 5) -> Path:
    """Encode pictures [H, W, 3] as FORMATS[kind], with a tone of the same length where the format has sound."""
    container, video_codec, audio_codec = FORMATS[kind]
    pictures = list(pictures)
    with av.open(str(path), "w", format=container) as output:
        video = output.add_stream(video_codec, rate=rate)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        if video_codec.startswith("libx26"):
            video.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        audio = output.add_stream(audio_codec, rate=SOUND_RATE, layout="mono") if audio_codec else None
        for picture in pictures:
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(video.encode(None))
        if audio is not None:
            _add_tone(output, audio, len(pictures) / rate)
    return path


def _add_tone(output: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    """Encode a 440 Hz tone."""
    samples = (8000 * np.sin(2 * np.pi * 440 / SOUND_RATE * np.arange(int(seconds * SOUND_RATE)))).astype(np.int16)
    resampler = av.AudioResampler(stream.format, stream.layout, stream.rate, frame_size=stream.frame_size or 1024)
    whole = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    whole.rate, whole.pts, whole.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
    for frame in [*resampler.resample(whole), *resampler.resample(None)]:
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def make_song_with_cover(path: Path) -> Path:
    """Write an MP3 of a tone whose only picture is its cover."""
    picture = io.BytesIO()
    with av.open(picture, "w", format="mjpeg") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        output.mux(cover.encode(av.VideoFrame.from_ndarray(moving(1)[0], format="rgb24")))
        output.mux(cover.encode(None))
    mime, jpeg = b"image/jpeg", picture.getvalue()
    body = b"\0" + mime + b"\0\3\0" + jpeg  # ID3v2.3 APIC: Latin-1, front cover, no description
    tag = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes((len(tag) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    sound = io.BytesIO()
    with av.open(sound, "w", format="mp3") as output:
        _add_tone(output, output.add_stream("libmp3lame", rate=SOUND_RATE, layout="mono"), 2.0)
    path.write_bytes(b"ID3\3\0\0" + size + tag + sound.getvalue())
    return path


def make_sources(folder: Path) -> dict[str, bytes]:
    """Return one good file of each kind: ending -> content."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = {
        kind: make_clip(folder / f"source.{kind}", moving(number), kind).read_bytes()
        for number, kind in enumerate(FORMATS)
    }
    sources["mp3"] = make_song_with_cover(folder / "source.mp3").read_bytes()
    return sources


def _bits_flipped(data: bytearray, random: np.random.Generator) -> bytearray:
    for place in random.integers(0, len(data), random.integers(1, 40)):
        data[place] ^= 1 << int(random.integers(8))
    return data


def _header_bits_flipped(data: bytearray, random: np.random.Generator) -> bytearray:
    data[:600] = _bits_flipped(data[:600], random)
    return data


def _cut(data: bytearray, random: np.random.Generator) -> bytearray:
    return data[: random.integers(0, len(data))]


def _beginning_lost(data: bytearray, random: np.random.Generator) -> bytearray:
    return data[random.integers(1, len(data)) :]


def _header_only(data: bytearray, random: np.random.Generator) -> bytearray:
    return data[: random.integers(1, 200)]


def _span(data: bytearray, random: np.random.Generator) -> slice:
    start = int(random.integers(0, len(data)))
    return slice(start, start + int(random.integers(1, max(2, len(data) // 4))))


def _zeroed(data: bytearray, random: np.random.Generator) -> bytearray:
    span = _span(data, random)
    data[span] = bytes(len(data[span]))
    return data


def _noise_inserted(data: bytearray, random: np.random.Generator) -> bytearray:
    start = _span(data, random).start
    data[start:start] = random.bytes(int(random.integers(1, 3000)))
    return data


def _block_repeated(data: bytearray, random: np.random.Generator) -> bytearray:
    span = _span(data, random)
    data[span.start : span.start] = data[span]
    return data


def _blocks_swapped(data: bytearray, random: np.random.Generator) -> bytearray:
    a, b, c = sorted(random.integers(0, len(data), 3).tolist())
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _words_made_huge(data: bytearray, random: np.random.Generator) -> bytearray:
    """Sizes and counts in headers become enormous."""
    for place in random.integers(0, min(len(data), 1000), 3).tolist():
        data[place : place + 4] = random.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"])
    return data


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator], bytearray], ...] = (
    _bits_flipped,
    _header_bits_flipped,
    _cut,
    _beginning_lost,
    _header_only,
    _zeroed,
    _noise_inserted,
    _block_repeated,
    _blocks_swapped,
    _words_made_huge,
)


def ending(kind: str) -> str:
    """Return the ending of a file's name; a song passes for a video."""
    return "mp4" if kind == "mp3" else kind.rpartition(".")[2]


def write_mutated(folder: Path, sources: dict[str, bytes], count: int, seed: int) -> list[str]:
    """Write damaged copies, each kind with each mutation in turn; return their names without the ending."""
    names = []
    for number in range(count):
        kind = list(sources)[number % len(sources)]
        mutate = MUTATIONS[number // len(sources) % len(MUTATIONS)]
        random = np.random.default_rng((seed, number))
        name = f"{number:05d}-{kind.replace('.', '-')}-{mutate.__name__.strip('_')}"
        (folder / f"{name}.{ending(kind)}").write_bytes(mutate(bytearray(sources[kind]), random))
        names.append(name)
    return names
