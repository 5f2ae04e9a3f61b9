"""The inbox of signed objects from all transports: verify, carry out once, record."""
