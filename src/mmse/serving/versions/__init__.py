"""The versions of a site: published, served by arm, rolled back."""
