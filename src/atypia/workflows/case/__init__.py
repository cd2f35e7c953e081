"""What is made of a case beside its calls: saliency overlays, figures per mm² and hotspots."""
