"""Pages as one self-contained file: templates, their style and script, and charts as SVG. Nothing here reads a run."""
