"""Pretend BACnet controllers on bacpypes3's own objects: they share no code with the driver."""
