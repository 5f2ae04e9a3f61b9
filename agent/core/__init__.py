"""What every component uses: the model, errors, time, tasks, files and texts."""
