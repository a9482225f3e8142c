"""The two towers: item features, the text, identity and shopper views, fusion, objectives and recipes."""
