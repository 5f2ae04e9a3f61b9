"""Types of settings: durations, sizes, hosts, paths, and references to secrets.

All settings models use them. Code may give plain numbers (seconds, bytes). A configuration file may
not, because `60` alone does not name its unit.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_core import core_schema

from agent.core.errors import Refused
from agent.core.i18n import Text

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

FROM_A_FILE = {"written": True}
"""validation context of a file, in which numbers without a unit are refused"""

SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SHOWN = 60
"""most characters of a value that a message quotes"""
BLANKS = str.maketrans("\u00a0\u202f", "  ")
"""spaces that French keyboards and word processors put before a unit"""
AMOUNT = re.compile(
    r"([0-9]{1,6})(?:[.,]([0-9]{1,3})|/([1-9][0-9]{0,3}))? *([A-Za-z]{1,8})\.?", re.ASCII
)
ON_A_CLOCK = re.compile(r"([0-9]{1,2}) *[:h] *([0-9]{2})", re.ASCII)
ALSO = {
    **dict.fromkeys(("sec", "second", "seconds", "seconde", "secondes"), "s"),
    **dict.fromkeys(("m", "mn", "minute", "minutes", "mins"), "min"),
    **dict.fromkeys(("hour", "hours", "heure", "heures", "hr"), "h"),
    **dict.fromkeys(("j", "jour", "jours", "day", "days"), "d"),
    **dict.fromkeys(("ko", "kb"), "kB"),
    **dict.fromkeys(("mo", "mb"), "MB"),
    **dict.fromkeys(("go", "gb"), "GB"),
    "o": "B",
}
"""other spellings of units, in small letters; a message proposes the right one"""
LIKE_IPV4 = re.compile(r"[0-9]+([.,][0-9]*)+(:[0-9]*|/[0-9]*)?", re.ASCII)
NUMBER_AND_UNIT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([A-Za-z]{1,7})", re.ASCII)


def duration(text: str) -> float:
    """Parse `500ms`, `10s`, `15min`, `1h` or `14d` into seconds. Raises ValueError for people."""
    number, unit = _split(text, SECONDS, Text("a duration such as 15min"))
    return number * SECONDS[unit]


def size(text: str) -> int:
    """Parse `200MB` (10⁶) or `200MiB` (2²⁰) into bytes. Raises ValueError for people."""
    number, unit = _split(text, BYTES, Text("a size such as 200MB"))
    return int(number * BYTES[unit])


def written(seconds: float) -> str:
    """Format a duration as in a file, in the largest unit that needs no fraction."""
    for unit in ("d", "h", "min", "s"):
        if seconds >= SECONDS[unit] and seconds % SECONDS[unit] == 0:
            return f"{int(seconds // SECONDS[unit])}{unit}"
    return f"{seconds * 1000:g}ms"


MINUTES_FROM, HOURS_FROM = 120, 7200
"""seconds from which durations are shown in minutes, and in hours"""


def took(seconds: float) -> Text:
    """Format a duration for people: `22 min`."""
    if seconds < MINUTES_FROM:
        return Text("{number:.3g} s", number=seconds)
    if seconds < HOURS_FROM:
        return Text("{number:g} min", number=round(seconds / 60, 1))
    return Text("{number:.1f} h", number=seconds / 3600)


def written_size(number: int) -> str:
    """Format a number of bytes as in a file: `200MB`."""
    for unit in ("GB", "MB", "kB"):
        if number >= BYTES[unit] and number % BYTES[unit] == 0:
            return f"{number // BYTES[unit]}{unit}"
    return f"{number}B"


def _split(text: str, units: dict[str, Any], expected: str) -> tuple[float, str]:
    plain = text.translate(BLANKS).strip()
    match = NUMBER_AND_UNIT.fullmatch(plain)
    if not match or match[2] not in units:
        known, meant = ", ".join(units), _meant(plain, units)
        problem = Text(
            "expected {expected} (units: {known}), found {text}",
            expected=expected,
            known=known,
            text=shown(text),
        )
        raise ValueError(problem + (Text("; write {number}", number=meant) if meant else ""))
    return float(match[1]), match[2]


def _meant(text: str, units: dict[str, Any]) -> str:
    """Guess the right form of `1/4 h`, `0,25h`, `1h30`, `60 sec` or `200 Mo`; empty if none."""
    if units is SECONDS and (clock := ON_A_CLOCK.fullmatch(text)):
        return written(int(clock[1]) * 3600 + int(clock[2]) * 60)
    if not (match := AMOUNT.fullmatch(text)):
        return ""
    unit = match[4] if match[4] in units else ALSO.get(match[4].lower(), "")
    if unit not in units:
        return ""
    number = float(f"{match[1]}.{match[2] or 0}") / int(match[3] or 1) * units[unit]
    return written(round(number, 3)) if units is SECONDS else written_size(round(number))


def shown(value: object) -> str:
    """Quote a value for a message: short, on one line, and safe for a terminal."""
    if value is None:
        return Text("nothing")
    if isinstance(value, dict):
        return Text("a mapping")
    if isinstance(value, list):
        return Text("a list")
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    text = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
    return f'"{harmless(text)}"' if isinstance(value, str) else harmless(text)


def harmless(text: str) -> str:
    """Escape control characters, line ends and all else that cannot be printed."""
    if text.isprintable():
        return text  # as it is: it may be a text that its reader translates
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def wrong_ipv4(host: str) -> str:
    """Say what is wrong with a host that looks like an IPv4 address but is none; empty if nothing.

    A host name cannot look like that: its last label is not all digits (RFC 1123, 2.1).
    """
    if not LIKE_IPV4.fullmatch(host):
        return ""
    try:
        IPv4Address(host)
    except ValueError:
        return Text(
            "{host} is not an IPv4 address: write four numbers from 0 to 255, such as"
            " 192.168.10.20",
            host=shown(host),
        )
    return ""


def checked_host(host: str) -> str:
    """Return a host name or address as it is.

    Raises ValueError for people if it looks like an IPv4 address and the system refuses it. The
    system accepts `10.0.1` and `192.168.001.005`: gateways may use such forms, so they stay valid.
    """
    try:
        socket.inet_aton(host)
    except OSError:
        if wrong := wrong_ipv4(host):
            raise ValueError(wrong) from None
    return host


def is_loopback(host: str | None) -> bool:
    """Whether a host is certainly this machine: 127.0.0.0/8, ::1 or localhost. Asks no DNS."""
    if host is None or host == "localhost":
        return host is not None
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _duration(value: object, info: ValidationInfo) -> float:
    if isinstance(value, str):
        return duration(value)
    return _number(value, info, Text("a duration such as 15min"), "s")


def _size(value: object, info: ValidationInfo) -> int:
    if isinstance(value, str):
        return size(value)
    return int(_number(value, info, Text("a size such as 200MB"), "MB"))


def _number(value: object, info: ValidationInfo, expected: str, unit: str) -> float:
    # All that converts to float is a number, such as the YAML parser's own types. A bool is not.
    number = not isinstance(value, bool) and hasattr(value, "__float__")
    if number and not info.context:
        return float(value)  # type: ignore[arg-type] # hasattr is the proof
    remedy = (
        Text('; write "{value}{unit}" if that is what you mean', value=value, unit=unit)
        if number
        else ""
    )
    raise ValueError(
        Text(
            "expected {expected}, found {found}{quotes}",
            expected=expected,
            found=shown(value),
            quotes=remedy,
        )
    )


Duration = Annotated[float, BeforeValidator(_duration, json_schema_input_type=str)]
"""seconds; written `500ms`, `10s`, `15min`, `1h`, `14d`"""

Bytes = Annotated[int, BeforeValidator(_size, json_schema_input_type=str)]
"""written `200MB`"""


def _from_the_root(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(Text("expected an absolute path, /…, found {path}", path=shown(str(path))))
    return path


FromTheRoot = Annotated[Path, AfterValidator(_from_the_root)]
"""an absolute path, which means the same in every process"""


Host = Annotated[str, AfterValidator(checked_host)]
"""the name or the address of a host"""


def from_the_root(path: str) -> str:
    """Return the path of a device file as it is. Raises ValueError for people if it is relative."""
    _from_the_root(Path(path))
    return path


@dataclass(frozen=True, slots=True)
class Secret:
    """A reference to a secret, never the secret: `file:PATH`, `env:NAME` or `credential:NAME`."""

    kind: str
    name: str

    @classmethod
    def parse(cls, written: object) -> Self:
        """Parse a reference. Raises ValueError without quoting the value: it may be the secret."""
        if isinstance(written, cls):  # defaults and code may give a Secret and no text
            return written
        kind, colon, name = written.partition(":") if isinstance(written, str) else ("", "", "")
        if kind not in {"file", "env", "credential"} or not colon or not name.strip():
            raise ValueError(
                Text(
                    "a secret must not be in the configuration, because everybody who can read"
                    " it or a copy would know it: put it into a file that only gardien can read,"
                    " and write file:/path/to/it (or env:NAME, or credential:NAME for systemd's"
                    " LoadCredential=)"
                )
            )
        if kind == "file" and not name.strip().startswith("/"):
            raise ValueError(Text("the path of a secret's file must be absolute: file:/path/to/it"))
        return cls(kind, name.strip())

    def reveal(self) -> str:
        """Read the secret, without a trailing newline. Raises Refused naming the reference."""
        try:
            return self._fetch().rstrip("\r\n")
        except (OSError, KeyError, ValueError) as error:
            raise Refused(
                "the secret {name} cannot be read: {error}", name=self, error=self._why(error)
            ) from error

    def _why(self, error: Exception) -> str:
        if self.kind == "env" and isinstance(error, KeyError):
            return Text("this variable is not set where gardien runs")
        if self.kind == "credential" and isinstance(error, KeyError | FileNotFoundError):
            return Text(
                "systemd provides no such file: credential:gardien_NAME is"
                " /etc/gardien/credentials/NAME, and systemd reads it when the service starts"
            )
        return getattr(error, "strerror", None) or str(error)

    def _fetch(self) -> str:
        if self.kind == "env":
            return os.environ[self.name]
        folder = Path(os.environ["CREDENTIALS_DIRECTORY"]) if self.kind == "credential" else Path()
        return (folder / self.name).read_text(encoding="utf-8")

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": "^(file|env|credential):.+"}
