"""The spool: rows accepted for one recipient stay on this disk until their receipt arrives."""
