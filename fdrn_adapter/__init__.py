"""fdrn_adapter: FDRN (Feature Decoupling-Recycling Network, MM 2023) variants of stock networks."""
