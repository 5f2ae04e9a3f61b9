"""The spool: what was accepted for one recipient stays on this disk until its receipt."""
