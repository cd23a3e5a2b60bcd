"""mkdocs hooks: pages from files outside `docs/`, and links that lead to them.

The README, the changelog, the contributing guide, the security policy, the benchmarks and the committed leaderboards
become pages of the site. Links between them and the pages of `docs/` are rewritten. A link to a file that is not part
of the site, such as a module, becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
#: File or folder in the repository -> page of the site.
PAGES = {
    "README.md": "user-guide.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
}


def site_files() -> dict[str, str]:
    """Files outside `docs/` that belong to the site, by their path in the repository."""
    found = dict(PAGES)
    for file in sorted((ROOT / "leaderboards").rglob("*")):
        path = file.relative_to(ROOT).as_posix()
        if file.name == "README.md":  # its page would replace the index.html next to it
            found[path] = f"{posixpath.dirname(path)}.md"
        elif file.is_file():
            found[path] = path
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, uri in site_files().items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    pages = site_files()
    sources = {uri: path for path, uri in pages.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def rewritten(link: re.Match[str]) -> str:
        text, (target, hash_, anchor) = link[1], link[2].partition("#")
        if ":" in target or not target:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        uri = pages.get(path) or path.removeprefix("docs/")
        if files.get_file_from_path(uri) is None:
            return text
        return (
            f"[{text}]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{hash_}{anchor})"
        )

    return LINK.sub(rewritten, markdown)
