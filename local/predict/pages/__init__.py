"""Pages to look at detections and listen to them in a browser, without a server or network."""

# Recordings up to this size become a part of their page.
EMBEDDED_MB = 10.0
