"""What is reviewed: figures, their scores and their order."""
