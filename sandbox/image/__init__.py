"""What a container is made of: its image, and the init that is its PID 1."""
