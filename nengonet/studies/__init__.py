"""The published examples, a module each (`amplitude` has three), and what they share."""
