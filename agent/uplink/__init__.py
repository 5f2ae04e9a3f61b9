"""From the spool to one recipient: forward, receipts, and the transports."""
