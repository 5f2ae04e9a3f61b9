"""The numbers of the call `metrics` in the formats that Prometheus and its relatives read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ENDINGS = {"counter": "_total", "info": "_info"}
"""what the names of samples have that the names of their families have not"""


def exposition(families: Sequence[Mapping[str, Any]], accept: str = "") -> tuple[bytes, str]:
    """Write the families of the call `metrics`; return the document and its content type.

    `accept`: the header of the request. OpenMetrics for whom accepts it, else Prometheus's text.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_FamilyCollector(families))
    # without the header: the text that every version reads
    encode, content_type = choose_encoder(accept or "text/plain")
    return encode(registry), content_type


class _FamilyCollector(Collector):
    """Families that were made elsewhere."""

    def __init__(self, families: Iterable[Mapping[str, Any]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            name = family["name"].removesuffix(ENDINGS.get(family["type"], ""))
            metric = Metric(name, family["help"], family["type"], family["unit"])
            for sample in family["samples"]:
                metric.add_sample(family["name"], sample["labels"], sample["value"])
            yield metric
