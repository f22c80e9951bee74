"""Figures of an analysis, drawn with Matplotlib."""
