"""Uploads: a form's file, received into a private temporary file that is gone again whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from vtr.files import lock, locked_by
from vtr.serving.limits import MIB

FIELD = "file"
AROUND_BYTES = 64 * 1024
"""What a form may hold beside the file."""

WRITTEN_AT_ONCE = MIB
DRAIN_SECONDS = 5.0
PREFIX, LOCK = "vtr-uploads-", ".lock"


class RefusedError(Exception):
    """An upload that is not taken; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was received.

    Attributes:
        path: where it lies until the `async with` block ends.
        name: what its owner calls it.
    """

    path: Path
    name: str


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a folder that only this user can read, and that goes with the server; remove those of killed servers."""
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            if (left / LOCK).exists() and locked_by(left / LOCK) is None:
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with lock(folder / LOCK, f"receive uploads into {folder}"):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def receive(request: Request, folder: Path, most_bytes: int) -> Upload:
    """Receive a form's field "file" into a new file in `folder`; the caller removes it.

    Raises:
        ClientDisconnect: the client is gone.
        RefusedError: it is too large (413), the body is no form (415), or the form has no file (422).
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise RefusedError(415, f"the body is no form with a file: multipart/form-data with a field '{FIELD}'.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most_bytes + AROUND_BYTES:
        await _drain(request)
        raise RefusedError(413, _too_large(most_bytes))
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as stream:
        path = Path(stream.name)
        try:
            form = _Form(boundary)
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > most_bytes + AROUND_BYTES or form.size > most_bytes:
                    await _drain(request)
                    raise RefusedError(413, _too_large(most_bytes))
                form.feed(chunk)
                if len(form.content) > WRITTEN_AT_ONCE:
                    await asyncio.to_thread(stream.write, form.take())
            await asyncio.to_thread(stream.write, form.take())
            form.finish()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    if form.size > most_bytes:
        path.unlink()
        raise RefusedError(413, _too_large(most_bytes))
    return Upload(path, form.name)


class _Form:
    """Takes a form apart as it arrives, and keeps the content of its field "file"."""

    def __init__(self, boundary: bytes) -> None:
        self.name = ""
        self.size = 0
        self.content = bytearray()
        self._header, self._value = b"", b""
        self._field: bytes | None = None
        self._found = self._ended = False
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_content,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise RefusedError(422, f"the form cannot be read: {error}.") from error

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            RefusedError: it is no form (422).
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise RefusedError(422, f"the form cannot be read: {error}.") from error

    def take(self) -> bytes:
        """Return what of the file has come since the last call."""
        content, self.content = bytes(self.content), bytearray()
        return content

    def finish(self) -> None:
        """Check that the file is there as a whole.

        Raises:
            RefusedError: it is not, or not as a whole (422).
        """
        if not self._found:
            raise RefusedError(422, f"the form has no file in a field '{FIELD}'.")
        if not self._ended:
            raise RefusedError(422, "the form ends in the middle of the file. Send it again.")

    def _begin(self) -> None:
        self._field = None

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._field = options.get(b"name")
            if self._field == FIELD.encode() and not self._found:
                self._found = True
                said = options.get(b"filename", b"").decode(errors="replace")
                self.name = said.replace("\\", "/").rpartition("/")[2][:200] or "a video"
            elif self._field == FIELD.encode():
                raise RefusedError(422, f"the form has several files in fields '{FIELD}'. Send one.")
        self._header, self._value = b"", b""

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        if self._field == FIELD.encode():
            self.content += data[start:end]
            self.size += end - start

    def _end(self) -> None:
        self._ended = True


async def _drain(request: Request) -> None:
    """Read on for a while: a client that is still sending does not hear the answer."""
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in request.stream():
                pass


def _too_large(most_bytes: int) -> str:
    return f"the file is larger than {most_bytes / MIB:,.1f} MiB, which is as much as is taken."


async def until_disconnected(request: Request) -> None:
    """Return when the client is gone. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
