"""Wired M-Bus: `decode` reads what meters answer (EN 13757-2 frames, EN 13757-3 telegrams)."""
