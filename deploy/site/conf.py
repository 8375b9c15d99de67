"""The pages as a site: `make docs`. Sphinx reads the Markdown that people read in the repository, as it is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

project = "secretbinding"
author = "the secretbinding authors"
copyright = author
_told = (ROOT / "controller" / "secretbinding" / "__init__.py").read_text()
release = re.findall(r'__version__ = "(.+)"', _told)[0]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "deploy/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    ".github/SECURITY.md",
    "charts/*/README.md",
    "deploy/*.md",
    "deploy/examples/*.md",
    "deploy/policies/*.md",
]
exclude_patterns = ["build", ".venv"]
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
# Pages that are reached by links alone.
suppress_warnings = ["toc.not_included", "misc.highlighting_failure"]

html_theme = "furo"
html_title = f"secretbinding {release}"
html_copy_source = False
html_show_sphinx = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
# Every page works without a request to anybody else.
html_use_opensearch = ""
