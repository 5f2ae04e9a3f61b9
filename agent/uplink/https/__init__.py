"""HTTPS to a platform: the transport and its settings."""
