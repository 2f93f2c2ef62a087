"""Protocols: many fits, so that their table says how good a recipe is."""
