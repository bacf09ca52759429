"""A table of keys and values, as TOML and JSON give it -> values of known types, or an error with the key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from flopscope.errors import InputError


class Keys:
    """Takes values out of a table by name; what is wrong with one is said with its full key.

    Args:
        given: the table.
        file: where it was read, for messages.
        at: the key of the table itself; "" for the outermost.
    """

    def __init__(self, given: Any, *, file: str, at: str = "") -> None:
        self.file, self.at = file, at
        if not isinstance(given, Mapping):
            raise self.error("", "a table", given)
        self.given = given
        self._asked: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it has to be there."""
        value = self._take(name, default, "a text")
        if not isinstance(value, str):
            raise self.error(name, "a text", value)
        return value

    def number(self, name: str, default: float | None = None, *, least: float | None = None) -> float:
        """A finite number: above nought, or from `least` on."""
        value = self._take(name, default, "a number")
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
        if not good or (value <= 0 if least is None else value < least):
            wanted = "a number above 0" if least is None else f"a number from {least:g} on"
            raise self.error(name, wanted, value)
        return float(value)

    def whole(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number from `least` on."""
        value = self.number(name, default, least=least)
        if value != int(value):
            raise self.error(name, "a whole number", value)
        return int(value)

    def maybe(self, name: str) -> float | None:
        """A number above nought, or None where the key is not there."""
        self._note(name)
        return None if self.given.get(name) is None else self.number(name)

    def table(self, name: str) -> Keys:
        """A table; an empty one where the key is not there."""
        self._note(name)
        return Keys(self.given.get(name, {}), file=self.file, at=self._key(name))

    def tables(self, name: str) -> list[Keys]:
        """A list of tables; an empty one where the key is not there."""
        self._note(name)
        found = self.given.get(name, [])
        if not isinstance(found, list):
            raise self.error(name, "a list of tables", found)
        return [
            Keys(one, file=self.file, at=f"{self._key(name)}[{place}]") for place, one in enumerate(found)
        ]

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; an empty one where the key is not there."""
        self._note(name)
        found = self.given.get(name, [])
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise self.error(name, "a list of texts", found)
        return tuple(found)

    def names(self) -> Iterator[str]:
        """The names of all keys."""
        return iter(self.given)

    def finish(self) -> None:
        """Refuse keys that nobody asked for: they are typing errors, or mean something else here.

        Raises:
            InputError: There is one.
        """
        for name in self.given:
            if name not in self._asked:
                near = difflib.get_close_matches(str(name), self._asked, 1)
                hint = f"did you mean {near[0]}?" if near else f"keys here: {', '.join(self._asked)}"
                raise InputError(f"{self.file}: unknown key {self._key(name)}", hint=hint)

    def error(self, name: str, wanted: str, got: Any) -> InputError:
        """What is wrong with a key."""
        return InputError(
            f"{self.file}: {self._key(name) or 'the file'}: expected {wanted}, got {got!r:.60}",
            hint="the form of a sheet is in docs/machine.md",
        )

    def _take(self, name: str, default: Any, wanted: str) -> Any:
        self._note(name)
        if name not in self.given and default is None:
            raise InputError(
                f"{self.file}: {self._key(name)} is missing: expected {wanted}",
                hint="the form of a sheet is in docs/machine.md",
            )
        return self.given.get(name, default)

    def _note(self, name: str) -> None:
        if name not in self._asked:
            self._asked.append(name)

    def _key(self, name: str) -> str:
        return ".".join(part for part in (self.at, name) if part)
