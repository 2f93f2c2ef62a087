"""Columns to frames: the slot grid and its rings. No Kafka, no torch, no clock."""
