"""The review page: a local server where figures are checked, corrected and handed back to training."""
