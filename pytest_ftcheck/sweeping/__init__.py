"""What an adapter could do if it were set otherwise: so that nobody pays for full fine-tuning because of a setting."""
