"""Modbus TCP and RTU. `plan` and `codec` are pure; `tcpwire` and `rtuwire` each are one connection;
`master` reads through either.
"""
