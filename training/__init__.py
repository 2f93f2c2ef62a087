"""Data sets, augmentation, fitting, evaluation, reports."""
