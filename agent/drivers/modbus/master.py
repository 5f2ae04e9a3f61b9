"""Read the points of a device over any Modbus connection: plan, divide refused blocks, decode."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from agent.core.clock import monotonic, seconds
from agent.core.errors import Refused
from agent.core.i18n import Text, text_of
from agent.core.model import Sample, Why
from agent.drivers.modbus.answer import RequestResult, cells, checked
from agent.drivers.modbus.codec import (
    FUNCTIONS,
    NETWORK,
    SUNSPEC,
    Cut,
    ReadBlock,
    Tariff,
    block,
    cut,
    decode,
    encode,
    place,
    plan,
    raw_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.core.model import Point, Value
    from agent.drivers.modbus.codec import PointNotes, RegisterRange

BASES = (40000, 0, 50000)
MARKER = [0x5375, 0x6E53]
"""SunS"""
END = 0xFFFF
MOST_MODELS = 64

Ask = Callable[[int, int], Awaitable[RequestResult]]
"""reads holding registers, by the first one and the count"""
ON = 0xFF00
NEVER_COUNTED = {
    "int64": frozenset({1 << 63, (1 << 63) - 1}),
    "uint64": frozenset({1 << 63, (1 << 63) - 1, (1 << 64) - 1}),
}
"""raw numbers that no counter reaches: meters use them for "no value\""""
BITS = ("coil", "discrete")
REGISTER = range(0x10000)
OTHER_NUMBER = "12345678"
"""what stands in a recording in the place of the device's serial number"""


async def models(ask: Ask) -> tuple[Mapping[int, int], RequestResult | None]:
    """By number, the register at which each model begins; of several with one number, the first.

    If the device stops answering, the second item is that result.
    """
    for base in BASES:
        answer = await ask(base, 4)
        if answer.why is Why.SILENT:
            return {}, answer
        if not answer.why and cells(answer.pdu, 4)[:2] == MARKER:
            return await _walk(ask, base + 2, cells(answer.pdu, 4)[2:])
    return {}, None


async def _walk(
    ask: Ask, start: int, header: list[int]
) -> tuple[Mapping[int, int], RequestResult | None]:
    starts: dict[int, int] = {}
    for _model in range(MOST_MODELS):
        number, length = header
        # A wrong length must not lead beyond the last register.
        if number == END or start + length + 4 > END:
            break
        starts.setdefault(number, start)
        start += 2 + length
        answer = await ask(start, 2)
        if answer.why is Why.SILENT:
            return {}, answer
        if answer.why:
            break
        header = cells(answer.pdu, 2)
    return starts, None


def requests(point: PointNotes, value: Value | None) -> Iterator[bytes]:
    """The request PDUs that write a value, in the order to try them.

    The second one is for a device that does not support the function of the first. Raises Refused
    if the value cannot be written.
    """
    spot = point.written or point.spot
    if point.exponent or point.code:
        raise Refused("a value that another register scales cannot be written")
    if not isinstance(value, Decimal):
        raise Refused("a register cannot be emptied: only a number can be written to it")
    start = spot.start.to_bytes(2, "big")
    if spot.table == "coil":
        yield from _coil(start, value)
    elif spot.table == "holding":
        yield from _registers(start, spot, value)
    else:
        raise Refused("the table {table} is read-only", table=spot.table)


def _coil(start: bytes, value: Decimal) -> Iterator[bytes]:
    if value not in {0, 1}:
        raise Refused("a coil is 0 or 1, not {value}", value=value)
    yield b"\x05" + start + (ON if value else 0).to_bytes(2, "big")
    yield b"\x0f" + start + b"\0\1\1" + bytes([int(value)])


def _registers(start: bytes, spot: RegisterRange, value: Decimal) -> Iterator[bytes]:
    try:
        data = b"".join(cell.to_bytes(2, "big") for cell in encode(spot, value))
    except ValueError as error:
        raise Refused(text_of(error)) from error
    if spot.width == 1:
        yield b"\x06" + start + data
    yield b"\x10" + start + spot.width.to_bytes(2, "big") + bytes([len(data)]) + data


class ModbusWire(Protocol):
    """One open line or connection; the calls never overlap."""

    async def exchange(self, unit: int, pdu: bytes) -> RequestResult:
        """Send a request to one unit and wait for its answer. Raises LinkLost."""
        ...


@dataclass(frozen=True, slots=True)
class Manners:
    """How one device must be read, by the options of its points; see `address_options`."""

    most: int = 125
    pause: float = 0.0
    alone: bool = False
    never: frozenset[Cut] = frozenset()


class ModbusMaster:
    """Reads the devices of one open bus. What it learns of them is lost when the bus is closed."""

    def __init__(
        self, wire: ModbusWire, tariff: Callable[[int], Tariff] = lambda _: NETWORK
    ) -> None:
        self.wire = wire
        self.tariff = tariff
        """by unit, the costs of requests"""
        self.cuts: dict[int, frozenset[Cut]] = {}
        """by unit: boundaries at which refused blocks were divided; no later block crosses them"""
        self._models: dict[int, Mapping[int, int]] = {}
        """by unit: where its SunSpec models begin"""
        self._asked: dict[int, float] = {}
        """by unit that needs pauses: monotonic time of the last request"""

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device as `agent.drivers.base.Reads` promises."""
        unit = int(points[0].address)
        places = [place(point.at) for point in points]
        manners = manners_of(places)
        located, silence = await self._located(unit, places, manners)
        wanted = dict.fromkeys(
            spot for options in located for spot in (options.spots if options else ())
        )
        results: dict[RegisterRange, RequestResult | tuple[RequestResult, list[int]]] = {}
        if silence is None:
            silence = await self._read(unit, tuple(wanted), manners, results)
        return [
            _sample(point, options, results, silence)
            for point, options in zip(points, located, strict=True)
        ]

    async def record(
        self, points: Sequence[Point], serial: Point | None
    ) -> tuple[list[Sample], dict[str, Any]]:
        """Read and record points of one device; see `agent.drivers.base.RecordsDevices`."""
        wire = _RecordingWire(self.wire)
        every = [serial, *points] if serial else [*points]
        unit, places = int(every[0].address), [place(point.at) for point in every]
        # a master of its own, so that the models of SunSpec are read and recorded again
        master = ModbusMaster(wire, self.tariff)
        located, _ = await master._located(unit, places, manners_of(places))
        kept = {(table, at) for table, at in wire.cells if located and places != located}
        samples = await master.read(every)
        # Of the answers only what the points need is kept: nothing else of the device gets out.
        kept |= {
            (spot.table, at)
            for options in located
            for spot in (options.spots if options else ())
            for at in range(spot.start, spot.end)
        }
        cells_kept = {key: cell for key, cell in wire.cells.items() if key in kept}
        if serial and located[0]:
            spot = located[0].spot
            number = enumerate(_other_number(spot), spot.start)
            cells_kept |= {
                (spot.table, at): cell for at, cell in number if (spot.table, at) in cells_kept
            }
        return samples, _as_test(cells_kept)

    async def ask(self, unit: int, asked: ReadBlock, manners: Manners) -> RequestResult:
        """Read one block, after the device's pause."""
        return await self.exchange(unit, pdu_of(asked), manners)

    async def exchange(self, unit: int, pdu: bytes, manners: Manners) -> RequestResult:
        """Send any request to one unit, after its pause."""
        if manners.pause and (last := self._asked.get(unit)) is not None:
            await asyncio.sleep(max(0.0, last + manners.pause - monotonic()))
        answer = await self.wire.exchange(unit, pdu)
        if manners.pause:
            self._asked[unit] = monotonic()
        return answer

    async def _read(
        self,
        unit: int,
        spots: tuple[RegisterRange, ...],
        manners: Manners,
        results: dict[RegisterRange, RequestResult | tuple[RequestResult, list[int]]],
    ) -> RequestResult | None:
        """Read spots into `got`. Ends at the first request without an answer, which it returns."""
        todo = list(reversed(self._plan(unit, spots, manners)))
        while todo:
            asked = todo.pop()
            answer = await self.ask(unit, asked, manners)
            # Divided until each refused block begins at a single address, so that one register that
            # a device lacks costs only its own value.
            if answer.range_refused and _divisible(spots, asked):
                todo.extend(reversed(self._divide(unit, spots, asked)))
                continue
            if answer.why is Why.SILENT or answer.garbled:
                # Only one timeout for a device: its other points would be silent too, and each
                # would delay all other devices of the line.
                return answer
            results.update(_cells(spots, asked, answer))
        return None

    def _plan(
        self, unit: int, spots: tuple[RegisterRange, ...], manners: Manners
    ) -> tuple[ReadBlock, ...]:
        if manners.alone:
            return tuple(block(spots, [i]) for i in range(len(spots)))
        tariff = self.tariff(unit)
        if manners.most < tariff.most:
            tariff = replace(tariff, most=manners.most)
        return plan(spots, self.cuts.get(unit, frozenset()) | manners.never, tariff)

    def _divide(
        self, unit: int, spots: tuple[RegisterRange, ...], refused: ReadBlock
    ) -> list[ReadBlock]:
        where = cut(spots, refused)
        self.cuts[unit] = self.cuts.get(unit, frozenset()) | {where}
        before = [i for i in refused.points if spots[i].start < where[1]]
        behind = [i for i in refused.points if spots[i].start >= where[1]]
        return [block(spots, before), block(spots, behind)]

    async def _located(
        self, unit: int, places: Sequence[PointNotes], manners: Manners
    ) -> tuple[list[PointNotes | None], RequestResult | None]:
        """Add the start of their models to SunSpec addresses; None: the device lacks the model."""
        if not any(options.spot.table.startswith(SUNSPEC) for options in places):
            return list(places), None
        if unit not in self._models:

            async def ask(start: int, count: int) -> RequestResult:
                return await self.ask(unit, ReadBlock("holding", start, count), manners)

            known, silence = await models(ask)
            # Not stored: the device may have all models once it answers again.
            if silence:
                return [None] * len(places), silence
            self._models[unit] = known
        return [_based(options, self._models[unit]) for options in places], None


def pdu_of(asked: ReadBlock) -> bytes:
    """The PDU that reads a block (Modbus Application Protocol V1.1b3, 6.1 to 6.4)."""
    function = FUNCTIONS[asked.table]
    return bytes([function]) + asked.start.to_bytes(2, "big") + asked.count.to_bytes(2, "big")


def manners_of(places: Sequence[PointNotes]) -> Manners:
    """Combine the options of all points of a device that concern the device as a whole."""
    return Manners(
        min((options.most for options in places if options.most), default=125),
        max((options.pause for options in places), default=0.0),
        any(options.alone for options in places),
        frozenset(
            (options.spot.table, options.never[1] + 1) for options in places if options.never
        ),
    )


def _based(options: PointNotes, known: Mapping[int, int]) -> PointNotes | None:
    table = options.spot.table
    if not table.startswith(SUNSPEC):
        return options
    base = known.get(int(table.removeprefix(SUNSPEC)))
    if base is None:
        return None

    def moved(spot: RegisterRange | None) -> RegisterRange | None:
        return spot and replace(spot, table="holding", start=spot.start + base)

    first = moved(options.spot)
    assert first
    return replace(options, spot=first, exponent=moved(options.exponent), code=moved(options.code))


def _divisible(spots: tuple[RegisterRange, ...], asked: ReadBlock) -> bool:
    return len({spots[i].start for i in asked.points}) > 1


def _cells(
    spots: tuple[RegisterRange, ...], asked: ReadBlock, answer: RequestResult
) -> Iterator[tuple[RegisterRange, RequestResult | tuple[RequestResult, list[int]]]]:
    if answer.why:
        yield from ((spots[i], answer) for i in asked.points)
        return
    values = cells(answer.pdu, asked.count)
    for i in asked.points:
        first = spots[i].start - asked.start
        yield spots[i], (answer, values[first : first + spots[i].width])


def _sample(
    point: Point,
    options: PointNotes | None,
    results: Mapping[RegisterRange, RequestResult | tuple[RequestResult, list[int]]],
    silence: RequestResult | None,
) -> Sample:
    answers = [results.get(spot, silence) for spot in options.spots] if options else [silence]
    if options is None and silence is None:
        model = point.at.partition("/")[0]
        at = max(
            (a.at if isinstance(a, RequestResult) else a[0].at for a in results.values()),
            default=0.0,
        )
        detail = Text("the device has no {model}", model=model)
        return Sample(point, at, why=Why.BAD, detail=detail, absent=True)
    for answer in answers:
        if isinstance(answer, RequestResult):
            return Sample(
                point, answer.at, why=answer.why, detail=answer.detail, absent=answer.range_refused
            )
    read = [answer for answer in answers if isinstance(answer, tuple)]
    assert options
    at = max(answer.at for answer, _ in read)
    try:
        value = value_of(options, {s: c for s, (_, c) in zip(options.spots, read, strict=True)})
    except ValueError as error:
        return Sample(point, at, why=Why.BAD, detail=text_of(error))
    return Sample(point, at, value)


def value_of(options: PointNotes, results: Mapping[RegisterRange, Sequence[int]]) -> Value:
    """The exact value at an address. Raises ValueError with a reason if there is none."""
    held = results[options.block or options.spot]
    if options.block:
        begin = options.spot.start - options.block.start
        held = held[begin : begin + options.spot.width]
    raw = raw_of(options.spot, held)
    # Without this check, a meter without a value would deliver 9.2 × 10^18 as its index.
    never = NEVER_COUNTED.get(options.spot.type, ())
    if raw in options.absent or int.from_bytes(raw, "big") in never:
        raise ValueError(Text("the device reports that it has no value"))
    value = decode(options.spot, held)
    if isinstance(value, str):
        return value
    if options.exponent:
        power = int(Decimal(decode(options.exponent, results[options.exponent])))
        if not -10 <= power <= 10:  # noqa: PLR2004 -- SunSpec's own range of sunssf
            raise ValueError(
                Text("the device gives a scale factor outside -10 to 10 ({power})", power=power)
            )
        value = value.scaleb(power)
    if options.code:
        code = int(Decimal(decode(options.code, results[options.code])))
        factor = dict(options.factors).get(code)
        if factor is None:
            raise ValueError(
                Text(
                    "the device gives the unit code {code}, which the profile does not know",
                    code=code,
                )
            )
        value *= factor
    return value


class _RecordingWire:
    """A connection that keeps the cells of all good answers, by table and address."""

    def __init__(self, wire: ModbusWire) -> None:
        self._wire = wire
        self.cells: dict[tuple[str, int], int] = {}

    async def exchange(self, unit: int, pdu: bytes) -> RequestResult:
        answer = await self._wire.exchange(unit, pdu)
        if not answer.why:
            table = next(table for table, code in FUNCTIONS.items() if code == pdu[0])
            first, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
            read = enumerate(cells(answer.pdu, count)[:count], first)
            self.cells |= {(table, at): int(cell) for at, cell in read}
        return answer


def _other_number(spot: RegisterRange) -> list[int]:
    """The cells of a number that is no device's, in the type of the serial number."""
    if spot.type not in {"string", "bcd"}:
        return encode(spot, Decimal(OTHER_NUMBER[: 4 if spot.width == 1 else None]))
    number = bytes.fromhex(OTHER_NUMBER) if spot.type == "bcd" else OTHER_NUMBER.encode()
    raw = number[: 2 * spot.width].ljust(2 * spot.width, b"\0")
    raw = raw_of(spot, [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)])
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


def _as_test(recorded: Mapping[tuple[str, int], int]) -> dict[str, Any]:
    """Cells as a profile's `test` has them: runs of neighbours, by table and first address."""
    test: dict[str, Any] = {}
    last = ("", -1)
    for table, at in sorted(recorded):
        runs = test.setdefault(table, {})
        if (table, at - 1) != last:
            runs[at] = []
        runs[max(runs)].append(recorded[table, at])
        last = (table, at)
    return test


class Cells:
    """The connection to the simulated device; cells that the test does not name are 0."""

    def __init__(self, test: Mapping[str, Any]) -> None:
        self._tables = {
            FUNCTIONS[table]: _test_cells(table, test.get(table, {})) for table in FUNCTIONS
        }

    async def exchange(self, unit: int, pdu: bytes) -> RequestResult:
        """Answer a read immediately."""
        del unit
        first, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        cells = [self._tables[pdu[0]].get(at, 0) for at in range(first, first + count)]
        if pdu[0] in {FUNCTIONS[table] for table in BITS}:
            bits = sum(bool(cell) << n for n, cell in enumerate(cells))
            data = bits.to_bytes(-(-count // 8), "little")
        else:
            data = b"".join(cell.to_bytes(2, "big") for cell in cells)
        return checked(pdu, bytes((pdu[0], len(data))) + data, seconds())


def _test_cells(table: str, runs: object) -> dict[int, int]:
    by_address: dict[int, int] = {}
    for first, run in runs.items() if isinstance(runs, dict) else ():
        start, cells = _number(first), run if isinstance(run, list) else [run]
        for at, cell in enumerate(map(_number, cells), start):
            if cell not in REGISTER or at not in REGISTER:
                raise ValueError(
                    Text(
                        "{table}: a cell has 16 bits, found {cell} at {at}",
                        table=table,
                        cell=cell,
                        at=at,
                    )
                )
            by_address[at] = cell
    return by_address


def _number(written: object) -> int:
    """A whole number, decimal or as `0x1F`. Raises ValueError with a message."""
    try:
        return int(str(written), 0)
    except ValueError:
        raise ValueError(
            Text("expected a cell such as 0x1F or 31, found {written}", written=written)
        ) from None


def rehearse(test: Mapping[str, Any], points: Sequence[Point]) -> list[Sample]:
    """See `agent.drivers.base.Rehearses`."""
    at_once = [replace(point, at=_unhurried(point.at)) for point in points]
    # Nothing in memory waits, so the coroutine ends at its first step, without an event loop: the
    # check of a configuration has none.
    reading = ModbusMaster(Cells(test)).read(at_once)
    try:
        reading.send(None)
    except StopIteration as read:
        samples: list[Sample] = read.value
        return [replace(s, point=point) for s, point in zip(samples, points, strict=True)]
    raise AssertionError("reading cells in memory does not wait")


def _unhurried(at: str) -> str:
    return " ".join(note for note in at.split() if not note.startswith("pause="))
