#!/usr/bin/python3 -I
"""The command. Its code lies in a folder that only it looks into."""

import sys

sys.path.insert(0, "/usr/share/gardien-receiver")

from receiver.run import main

if __name__ == "__main__":  # its workers import this file too
    main(default_conf="/etc/gardien-receiver/receiver.conf")
