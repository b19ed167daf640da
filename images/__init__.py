"""What is inside: recipes of the container images and the sources of init. Data alone; nothing imports it."""
