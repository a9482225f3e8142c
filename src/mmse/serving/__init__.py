"""What is served: versions of a site, and the server that answers from them over HTTP."""
