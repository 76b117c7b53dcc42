"""Charts as SVG text: canvas, row charts, curves."""
