"""The comparison benchmark's parts: data sets, click simulation, protocols, baselines, reports."""
