"""The two towers: features, text and identity and shopper views, fusion, objectives, recipes."""
