"""Charts as SVG text: canvas, charts of rows, curves."""
