"""The configuration file: read, checked, explained and changed."""

from agent.config.config import Config
from agent.config.load import load, parse

__all__ = ["Config", "load", "parse"]
