"""What passes between the gateway and its recipients besides batches: status, keys, requests."""
