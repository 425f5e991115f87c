"""What a person looks at: tables and contact sheets."""
