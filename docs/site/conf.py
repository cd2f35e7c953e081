"""Settings of the site; `make site` calls Sphinx with them, on a copy of the pages (tools/documentation/build.py)."""

import os

project = "Atypia"
author = "The Atypia authors"
version = release = os.environ["ATYPIA_DOCS_VERSION"]

extensions = ["myst_parser", "sphinx_design", "sphinx_copybutton", "documentation.table_numbers"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
root_doc = "index"
nitpicky = True

html_theme = "pydata_sphinx_theme"
html_title = f"Atypia {version}"
html_static_path = ["_static"]
html_css_files = ["atypia.css"]
html_show_sourcelink = False
html_copy_source = False
html_last_updated_fmt = None
html_theme_options = {
    "logo": {"text": "Atypia", "alt_text": "Atypia, to the first page"},
    "navbar_start": ["navbar-logo", "version-switcher"],
    "navbar_end": ["theme-switcher"],
    "switcher": {"json_url": "../versions.json", "version_match": version},
    "check_switcher": False,
    "header_links_before_dropdown": 7,
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_depth": 2,
    "collapse_navigation": True,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "article_header_start": ["breadcrumbs"],
    "footer_start": ["research"],
    "footer_end": [],
    "back_to_top_button": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_sidebars = {"index": []}
templates_path = ["_templates"]

copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
copybutton_remove_prompts = True
copybutton_exclude = ".linenos, .gp, .go"
