"""BACnet/IP: bacpypes3 carries packets, segments, routes; what they say is read here."""
