"""Modbus: `plan` and `codec` are pure, `wire` is one connection, `master` what is common to all."""
