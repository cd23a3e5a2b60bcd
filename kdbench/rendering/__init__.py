"""Leaderboards as text: Markdown, HTML, LaTeX, CSV, JSON and the terminal."""
