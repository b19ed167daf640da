"""A container's life: prepared, launched, taken up again, kept warm, and what is left of it removed."""
