"""The gateway's key and certificate: made here, proved to the platform, renewed in time."""
