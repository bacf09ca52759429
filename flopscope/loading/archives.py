"""A zip file from anyone -> its members, or a refusal before anything large is read."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flopscope.errors import ModelLoadError

MAX_DIRECTORY_BYTES = 64 * 2**20
"""A zip's list of members; a model of 100,000 tensors needs 8 MB."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, NotImplementedError)
_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x06"
_LOCATOR_64 = b"PK\x06\x07"


class Members:
    """The members of an archive by their name below the top folder (`archive/data.pkl` -> `data.pkl`)."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            name = member.filename.partition("/")[2] or member.filename
            if name in self._members:
                raise damaged(path, f"it holds two members called {name!r}")
            self._members[name] = member

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def nbytes(self, name: str) -> int | None:
        """Bytes of a member; None where there is no such member."""
        member = self._members.get(name)
        return None if member is None else member.file_size

    def read(self, name: str, *, limit: int) -> bytes:
        """Read a member of at most `limit` bytes.

        Raises:
            ModelLoadError: There is none, it is larger, or its checksum is wrong.
        """
        member = self._members.get(name)
        if member is None:
            raise damaged(self.path, f"it has no member {name!r}")
        if member.file_size > limit:
            raise ModelLoadError(
                f"{self.path}: its {name} has {member.file_size} bytes, more than the {limit} that are read.",
                hint="no model that torch saves needs so much; get the file again from its source.",
            )
        try:
            return self._archive.read(member)
        except _DAMAGE as error:
            raise damaged(self.path, f"{name} cannot be read") from error

    def refuse_bombs(self) -> None:
        """Refuse an archive that unpacks to more than it weighs; torch stores without compression."""
        total = 0
        for member in self._members.values():
            total += member.file_size
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise ModelLoadError(
                    f"{self.path}: its {member.filename} is compressed or encrypted, as torch never writes.",
                    hint="save it again with torch.save or torch.export.save, and do not re-zip it.",
                )
        if total > self.path.stat().st_size:
            raise damaged(self.path, f"its members claim {total} bytes, more than the file has")


@contextlib.contextmanager
def open_members(path: Path) -> Iterator[Members]:
    """Open a zip file whose directory is of a sane size.

    Raises:
        ModelLoadError: The archive is truncated, damaged or absurd.
    """
    try:
        with path.open("rb") as stream:
            size = _directory_bytes(stream)
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise ModelLoadError(
                f"{path}: its list of members has {size} bytes; at most {MAX_DIRECTORY_BYTES} are read.",
                hint="get the file again from its source.",
            )
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise damaged(path, "its list of members is missing or broken") from error
    with archive:
        yield Members(path, archive)


class DamagedError(ModelLoadError):
    """The file is cut short or contradicts itself."""


def damaged(path: Path, what: str) -> DamagedError:
    """The error for a truncated or inconsistent file."""
    return DamagedError(
        f"{path} is damaged: {what}.",
        hint="the file may be cut short; copy or download it again, or save it again.",
    )


def _directory_bytes(stream: BinaryIO) -> int | None:
    """The declared size of the list of members, the larger of the plain and the zip64 record."""
    size = stream.seek(0, 2)
    start = max(0, size - 65_557)
    stream.seek(start)
    tail = stream.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        return None
    declared = int(struct.unpack_from("<L", tail, at + 12)[0])
    found = 0 if declared == 0xFFFFFFFF else declared
    if at >= 20 and tail[at - 20 : at - 16] == _LOCATOR_64:
        stream.seek(min(size, struct.unpack_from("<Q", tail, at - 12)[0]))
        record = stream.read(56)
        if len(record) == 56 and record.startswith(_END_64):
            found = max(found, int(struct.unpack_from("<Q", record, 40)[0]))
    return found
