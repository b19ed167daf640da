"""A container in use: commands, files and streams, as `protocol.Sandbox` has them."""
