"""The commissioning report: what is installed, proven and open, signed by the gateway."""
