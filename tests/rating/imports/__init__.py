"""Taking files in."""

from tests.rating.imports.files import HH

__all__ = ["HH"]
