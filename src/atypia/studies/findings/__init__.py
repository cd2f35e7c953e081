"""What the predictions of a study say."""
