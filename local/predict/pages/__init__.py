"""Pages to look at detections and listen to them in a browser, without a server or network."""
