"""Wired M-Bus. `decode` decodes the answers of meters (EN 13757-2 frames, EN 13757-3 telegrams)."""
