"""What is told about each number of the gateway; docs/metrics.md is made of this table."""

from __future__ import annotations

from dataclasses import dataclass

TOTAL, INFO = "_total", "_info"
"""how the names of counters, and of texts with the value 1, end"""
UNITS = ("seconds", "bytes", "ratio", "celsius")


@dataclass(frozen=True, slots=True)
class MetricType:
    """What is told about one number."""

    name: str
    """as it is scraped"""
    help: str
    labels: tuple[str, ...] = ()
    shared: bool = False
    """whether each recipient gets it in its status: rule P24. What the status has already as a
    member of its own is not sent twice"""

    @property
    def type(self) -> str:
        """The type of the number, in the words of OpenMetrics."""
        if self.name.endswith(INFO):
            return "info"
        return "counter" if self.name.endswith(TOTAL) else "gauge"

    @property
    def unit(self) -> str:
        """The unit, which is the last word of the name; empty if it has none."""
        last = self.name.removesuffix(TOTAL).rpartition("_")[2]
        return last if last in UNITS else ""


_LINE, _TO = ("line",), ("recipient",)
METRICS = (
    MetricType("gardien_build_info", "The installed version of gardien.", ("version",)),
    MetricType("gardien_gateway_info", "The id of the gateway.", ("gateway",)),
    MetricType("gardien_start_time_seconds", "When the agent was started, by the gateway's clock."),
    MetricType(
        "gardien_uptime_seconds", "Time since then, by a clock that never steps.", shared=True
    ),
    MetricType("gardien_time_seconds", "What time it is by the gateway's clock."),
    MetricType(
        "gardien_clock_state",
        "1 for the present trust in the clock: trusted, holdover or untrusted.",
        ("state",),
    ),
    MetricType(
        "gardien_health",
        "1 for the worst that a finding costs now: lost (readings), equipment, waiting (readings),"
        " later (nothing yet); fine: there is no such finding.",
        ("state",),
    ),
    MetricType(
        "gardien_findings",
        "What gardien status reports now, by code, by what it costs and by who must act. What"
        " concerns people is not counted.",
        ("code", "severity", "actor"),
    ),
    MetricType(
        "gardien_finding_since_timestamp_seconds",
        "Since when the oldest of these findings is there.",
        ("code", "severity"),
    ),
    MetricType("gardien_line_open", "1: the line is open.", _LINE),
    MetricType("gardien_line_devices", "Devices that are configured on the line.", _LINE),
    MetricType("gardien_line_silent_devices", "Of these, devices that do not answer.", _LINE),
    MetricType("gardien_line_openings_total", "How often the line was opened.", _LINE, shared=True),
    MetricType(
        "gardien_line_requests_total",
        "Requests since the line was opened (Modbus, M-Bus).",
        _LINE,
        shared=True,
    ),
    MetricType(
        "gardien_line_errors_total",
        "Since the line was opened: requests without an answer (silent), messages that nobody had"
        " asked for (stray).",
        ("line", "kind"),
        shared=True,
    ),
    MetricType("gardien_line_busy_ratio", "Share of time in which it is used.", _LINE, shared=True),
    MetricType(
        "gardien_line_answer_mean_seconds",
        "How long devices take to answer: mean of the last answers of all devices.",
        _LINE,
        shared=True,
    ),
    MetricType(
        "gardien_line_answer_slowest_seconds",
        "The same of the slowest device.",
        _LINE,
        shared=True,
    ),
    MetricType(
        "gardien_line_oldest_answer_timestamp_seconds",
        "Last answer of the device that has been silent for longest, of those that ever answered.",
        _LINE,
        shared=True,
    ),
    MetricType(
        "gardien_line_disturbing_devices",
        "Devices that disturb the line, by how they do it.",
        ("line", "kind"),
        shared=True,
    ),
    MetricType(
        "gardien_device_answer_timestamp_seconds",
        "Last answer of a device of common plant. Devices that measure a dwelling are not named.",
        ("line", "device"),
    ),
    MetricType(
        "gardien_slots_total",
        "Slots closed for the recipient since the start, by the quality of their value; without a"
        " value by the reason.",
        ("recipient", "quality", "reason"),
        shared=True,
    ),
    MetricType("gardien_connected", "1: the recipient is connected.", _TO),
    MetricType("gardien_receipt_timestamp_seconds", "When its last receipt arrived.", _TO),
    MetricType(
        "gardien_receipt_seconds", "How long its receipts take, smoothed.", _TO, shared=True
    ),
    MetricType("gardien_batches_sent_total", "Batches sent since the start.", _TO, shared=True),
    MetricType("gardien_batches_resent_total", "Of these, batches sent before.", _TO, shared=True),
    MetricType("gardien_batches_settled_total", "Batches with a receipt.", _TO, shared=True),
    MetricType(
        "gardien_batches_refused_total", "Batches refused since the start.", _TO, shared=True
    ),
    MetricType(
        "gardien_data_used_bytes",
        "Data moved this month, both directions, with all headers.",
        _TO,
    ),
    MetricType("gardien_data_budget_bytes", "The budget of a month, where there is one.", _TO),
    MetricType(
        "gardien_spool_rows",
        "Rows that the recipient has not receipted: waiting, in a sealed batch, or in a batch that"
        " it refuses.",
        ("recipient", "state"),
    ),
    MetricType(
        "gardien_spool_batches",
        "Sealed batches without a receipt, and those that are refused.",
        ("recipient", "state"),
    ),
    MetricType("gardien_spool_oldest_timestamp_seconds", "Slot of the oldest waiting row.", _TO),
    MetricType("gardien_spool_used_bytes", "Bytes in use in the spool.", _TO),
    MetricType("gardien_spool_limit_bytes", "Bytes that the spool may have.", _TO),
    MetricType(
        "gardien_spool_lasts_seconds",
        "How long an outage the rest of the spool can take, as it is configured.",
        _TO,
        shared=True,
    ),
    MetricType(
        "gardien_spool_memory", "1: rows are kept in memory only, since the disk fails.", _TO
    ),
    MetricType(
        "gardien_values_shed_total", "Values given up for lack of room, since the start.", _TO
    ),
    MetricType(
        "gardien_rows_unreadable_total",
        "Rows lost on a damaged disk since the spool was made.",
        _TO,
        shared=True,
    ),
    MetricType("gardien_devices_held_back", "Devices whose readings it may not have.", _TO),
    MetricType("gardien_disk_free_bytes", "Free space where gardien keeps its state."),
    MetricType("gardien_disk_size_bytes", "Size of that file system."),
    MetricType(
        "gardien_disk_worn_ratio",
        "Up to which tenth of its lifetime the eMMC is used, where it reports it.",
        shared=True,
    ),
    MetricType(
        "gardien_written_bytes_total", "Bytes written to the disk since the start.", shared=True
    ),
    MetricType("gardien_stores_failed", "Files that cannot be written now."),
    MetricType("gardien_components_failed", "Components that do not work now.", ("component",)),
    MetricType(
        "gardien_component_failures_total",
        "How often an unexpected error has stopped a component since the start.",
        ("component",),
    ),
    MetricType("gardien_certificate_end_timestamp_seconds", "When the certificate ends."),
    MetricType("gardien_controls", "Controls that are configured, or not released yet."),
    MetricType("gardien_controls_in_force", "Of these, controls under an order or a failsafe."),
    MetricType(
        "gardien_controls_overdue",
        "Of these, controls that are not released although their order has ended.",
    ),
    MetricType("gardien_controls_opted_out", "Controls whose owner has opted out."),
    MetricType("gardien_controls_forbidden", "Controls that a guard or an inhibit forbids now."),
    MetricType(
        "gardien_control_left_seconds",
        "Time until the end of an order on common plant, by the earlier of two clocks; 0: it is"
        " being released.",
        ("control",),
    ),
    MetricType("gardien_temperature_celsius", "Of the machine.", ("zone", "sensor"), shared=True),
    MetricType("process_resident_memory_bytes", "Memory of the agent.", shared=True),
    MetricType("process_cpu_seconds_total", "CPU time of the agent.", shared=True),
    MetricType("process_open_fds", "Open files of the agent.", shared=True),
)
BY_NAME = {metric.name: metric for metric in METRICS}
