"""MQTT 5 to a broker: the transport, its connection over paho, and its settings."""
