"""Taking backups to other machines, and getting them back."""
