"""BACnet/IP. bacpypes3 handles packets, segments and routes; the content is decoded here.

`bacpypes3/__init__.py` imports the whole library, including devices, objects and schedules: 5 MB of
memory that a client does not need. The modules of the library import each other by name, so an
empty module takes the place of that file.
"""

import importlib.util
import sys

if "bacpypes3" not in sys.modules and (_spec := importlib.util.find_spec("bacpypes3")):
    sys.modules["bacpypes3"] = importlib.util.module_from_spec(_spec)
