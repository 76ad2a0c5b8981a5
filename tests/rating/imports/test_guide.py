"""The admins' guide names the formats that there are."""

import re

from django.conf import settings

from rating.services.imports import FORMATS


def test_the_guide_has_a_line_for_each_format():
    guide = (settings.BASE_DIR / "docs/guides/admin.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", guide, re.MULTILINE)) == set(FORMATS) - {"auto"}
