"""Models: one file a provider, all behind `harness.provider.Provider`."""
