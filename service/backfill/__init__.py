"""Backfill: labels records that a topic holds already, from one moment to another, and ends."""
