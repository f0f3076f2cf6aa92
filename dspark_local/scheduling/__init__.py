"""What a round should be; pure."""
