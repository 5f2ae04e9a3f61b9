"""What the configuration says of each transport; it imports none of them."""
