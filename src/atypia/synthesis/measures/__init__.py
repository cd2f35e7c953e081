"""What generated crops are worth: distances, copies, label fidelity, and what of them is kept."""
