"""The file of a batch: CSV or JSON, compressed, signed and encrypted.

It is made once, while the batch is sealed, and stored. A second file of the same rows would have
another hash, because signature and encryption contain random numbers (decision 024).
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard

from agent.uplink.table import table

if TYPE_CHECKING:
    from agent.core.model import SealedBatch
    from agent.uplink.cms import Envelope

LARGEST_TEXT = 64 * 1024 * 1024
SETTING = 9, zlib.DEFLATED, 31, 9, zlib.Z_FILTERED
"""gzip parameters for lines that differ in few digits; an eighth smaller than the default"""


@dataclass(frozen=True, slots=True)
class Packing:
    """Packs batches for one recipient (agent.buffer.outbox.Pack)."""

    envelope: Envelope | None
    """None: files are neither signed nor encrypted"""

    def closed(self, text: bytes, form: str) -> tuple[str, bytes]:
        """Extension and bytes of a file with this text. Raises UplinkLost if openssl fails."""
        gzip = zlib.compressobj(*SETTING)
        packed = gzip.compress(text) + gzip.flush()
        if self.envelope is None:
            return f"{form}.gz", packed
        return f"{form}.gz.p7m", self.envelope.close(packed)

    def __call__(self, batch: SealedBatch) -> tuple[str, bytes]:
        """Extension and bytes of the file of a batch. Raises UplinkLost if openssl fails."""
        text = zstandard.ZstdDecompressor().decompress(batch.payload, max_output_size=LARGEST_TEXT)
        # numbers stay texts: a float would lose the meter's own digits
        if batch.rows:
            document = json.loads(text, parse_float=str, parse_int=str)
            return self.closed(table(document), "csv")
        return self.closed(text, "json")
