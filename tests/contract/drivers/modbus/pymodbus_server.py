"""A Modbus TCP server of pymodbus as a process: `python -m … PORT` prints "ready" if it serves."""

import asyncio
import sys

from pymodbus.server import ModbusTcpServer

from tests.contract.drivers.modbus.test_pymodbus import device


async def main() -> None:
    server = ModbusTcpServer(device(), address=("127.0.0.1", int(sys.argv[1])))
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
