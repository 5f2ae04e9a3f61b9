"""The TCP and UDP ports on which a process listens: `python3 listens.py PID`."""

import os
import sys

LISTEN = "0A"
mine = {os.readlink(f"/proc/{sys.argv[1]}/fd/{fd}") for fd in os.listdir(f"/proc/{sys.argv[1]}/fd")}
for kind in ("tcp", "tcp6", "udp", "udp6"):
    with open(f"/proc/{sys.argv[1]}/net/{kind}") as table:
        for line in list(table)[1:]:
            words = line.split()
            if f"socket:[{words[9]}]" in mine and (kind.startswith("udp") or words[3] == LISTEN):
                print(f"{kind}:{int(words[1].split(':')[1], 16)}")
