"""Finding mitotic figures on slides: detectors, what they find, and how good that is."""
