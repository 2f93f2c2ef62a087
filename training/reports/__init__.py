"""Report folders: JSON, Markdown and pictures."""
