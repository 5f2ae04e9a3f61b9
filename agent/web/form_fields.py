"""The fields of a form that a browser sends, within bounds of memory and time.

aiohttp would read them with `request.post()`, but without a bound for their number, and it would
unpack a compressed part however large it becomes.
"""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, web
from multidict import MultiDict

from agent.core.errors import Refused
from agent.core.i18n import N_

if TYPE_CHECKING:
    from aiohttp import MultipartReader

Fields = MultiDict[str | web.FileField]
LARGEST, LARGEST_OF_STRANGERS = 4_000_000, 16_000
"""most bytes of a form with its files; and of one that is sent without a login"""
READ_WITHIN, READ_WITHIN_OF_STRANGERS = 60.0, 10.0
"""seconds for a form to arrive"""
MOST_FIELDS = 5_000
"""fields of a form: a list with a field for each dwelling has fewer"""
AT_ONCE = 2
"""large forms that are read at the same time; others wait"""
TOO_LARGE = N_("this is too large: at most {largest} bytes. Divide it into several files")
PACKED = {"Content-Encoding", "Content-Transfer-Encoding"}
"""headers of a part of a form that no browser sends"""

_large = asyncio.Semaphore(AT_ONCE)


async def fields_of(request: web.Request, *, known: bool) -> Fields:
    """Return the fields of a form. `known`: a person with a login has sent it.

    Raises Refused if it is too large, TimeoutError if it does not come, HTTPBadRequest if it is
    none.
    """
    size, largest = request.content_length, LARGEST if known else LARGEST_OF_STRANGERS
    if size is None or request.headers.get("Content-Encoding"):
        raise web.HTTPBadRequest
    if size > largest:
        raise Refused(TOO_LARGE, largest=largest)
    try:
        async with asyncio.timeout(READ_WITHIN if known else READ_WITHIN_OF_STRANGERS):
            if size <= LARGEST_OF_STRANGERS:
                return await _read(request)
            async with _large:
                return await _read(request)
    except (ValueError, LookupError) as error:
        raise web.HTTPBadRequest from error


async def _read(request: web.Request) -> Fields:
    if request.content_type == "multipart/form-data":
        return await _parts(await request.multipart())
    if request.content_type != "application/x-www-form-urlencoded":
        return MultiDict()
    text = (await request.read()).decode()
    return MultiDict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))


async def _parts(reader: MultipartReader) -> Fields:
    """Read the parts of a form with files. Raises ValueError."""
    fields: Fields = MultiDict()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader) or not part.name or PACKED & part.headers.keys():
            raise ValueError("no part that a browser sends")
        if len(fields) == MOST_FIELDS:
            raise ValueError("too many parts")
        content = bytes(await part.read())
        if part.filename is None:
            fields.add(part.name, content.decode())
            continue
        kind = part.headers.get("Content-Type", "application/octet-stream")
        file: Any = io.BytesIO(content)
        fields.add(part.name, web.FileField(part.name, part.filename, file, kind, part.headers))
    return fields
