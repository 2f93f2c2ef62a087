"""A third worker, for heart sounds, made as `docs/add-a-model.md` says; all its sounds are synthetic."""
