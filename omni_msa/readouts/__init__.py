"""How a number is read off the Thinker's last hidden state: one file a readout, one table."""
