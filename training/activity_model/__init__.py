"""How the activity model is fitted: its recipes, frames, augmentation and calibration."""
