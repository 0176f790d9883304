"""Google's generateContent: its own dialect where the provider speaks it, by way of chat everywhere else."""
