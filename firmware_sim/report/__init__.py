"""What a run has shown: figures, and three ways to tell them: text, JSON and one HTML page."""
