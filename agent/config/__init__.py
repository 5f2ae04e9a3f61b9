"""The one file that says how the building is read: composed, checked, explained."""

from agent.config.config import Config
from agent.config.load import load, parse

__all__ = ["Config", "load", "parse"]
