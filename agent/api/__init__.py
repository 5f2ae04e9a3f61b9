"""Every request that a gateway accepts: one file for each topic."""
