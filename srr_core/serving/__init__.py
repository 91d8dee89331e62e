"""Our artifacts inside other people's servers; beside torch and the server itself nothing of ours is needed there."""
