"""The layers around the application, one ASGI class for each duty; `mmse.serving.app.wrap` puts them in their order."""
