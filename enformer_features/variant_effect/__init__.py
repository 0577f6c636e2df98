"""What a change of sequence does, through the network and the user's own head."""
