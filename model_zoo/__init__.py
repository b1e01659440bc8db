"""One YAML per variant of the paper's Table 2; read through `fdrn_adapter.zoo`."""
