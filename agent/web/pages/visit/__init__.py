"""The guided visit: everything that `gardien commission` does."""

from agent.web.pages.visit import flats, found_devices, found_lines, handover, sheets, steps

ROUTES = [
    route
    for topic in (steps, sheets, found_lines, found_devices, flats, handover)
    for route in topic.ROUTES
]
