"""From a device's answer to a row in the spool: when, whose, to whom, and what is missing."""
