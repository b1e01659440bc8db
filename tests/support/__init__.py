"""Helpers of the tests: networks, doubles, tiny data, toy code bases."""
