"""Taking files in: many formats of rows in four kinds of files, checked before anything is stored."""

from rating.services.imports.formats.columns import Columns
from rating.services.imports.importing import FORMATS, Position, import_file
from rating.services.imports.reports import ImportFailed, ImportReport, LineError

__all__ = ["FORMATS", "Columns", "ImportFailed", "ImportReport", "LineError", "Position", "import_file"]
