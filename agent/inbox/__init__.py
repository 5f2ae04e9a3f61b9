"""Where signed objects arrive, by whatever way: judged, done once, and written down."""
