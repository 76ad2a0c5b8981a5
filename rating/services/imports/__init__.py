"""Taking files in: HH-RLHF transcripts and prompts with responses, whole or not at all."""

from rating.services.imports.importing import FORMATS, import_file
from rating.services.imports.reports import ImportFailed, ImportReport, LineError

__all__ = ["FORMATS", "ImportFailed", "ImportReport", "LineError", "import_file"]
