"""Tests of the slot grid, the rings and cutting recordings."""
