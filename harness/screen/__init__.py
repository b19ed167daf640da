"""The screen: what a person, or a program in their place, is shown of a session, and types."""
