"""Models: one file a provider, all behind `base.Provider`."""
