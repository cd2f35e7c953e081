"""The saved classifier: parameters, preprocessing, decision."""
