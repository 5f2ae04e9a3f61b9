"""The gateway's key and certificate: create, enrol, prove and renew them."""
