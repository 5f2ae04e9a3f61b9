"""BACnet/IP: bacpypes3 carries packets, segments, routes; what they say is read here.

bacpypes3's own first file imports all of it, devices, objects and schedules too: 5 MB of memory for
what a client never calls. Its parts import each other by name, so that file is left out.
"""

import importlib.util
import sys

if "bacpypes3" not in sys.modules and (_spec := importlib.util.find_spec("bacpypes3")):
    sys.modules["bacpypes3"] = importlib.util.module_from_spec(_spec)
