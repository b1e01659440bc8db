"""Evaluation: data sets, protocols, outside methods and reports of `fdrn benchmark`."""
