"""Genes: tables, panels and gene sets."""
