"""The words all packages share: stages, filters, searches and answers, and the bodies of HTTP."""
